"""The performance model: how slow each domain is predicted to run for a given assignment to nodes."""
