"""The performance model: how slow each domain is predicted to run for a given assignment to nodes.

`Machine` is arrays derived from a topology. `evaluate` is the model, on a `MachineLoad`; `predict`, on `Tenants` (from
a snapshot), is its first order, and `Field` is that summed up for a search. Constants and their sources are in
`assumptions`; what the model says beside what was measured is in `report`; docs/model.md tells the whole.
"""
