"""The performance model: how slow each domain is predicted to run for a given assignment to nodes.

`Machine` and `Tenants` are arrays, derived from a topology and a snapshot; `predict` is the model; `Field` is the same
model summed up for a search. Constants and their sources are in `assumptions`.
"""
