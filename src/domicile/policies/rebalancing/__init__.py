"""Moving domains between the nodes of a host as its load changes: which, when, in which way, and when rather not."""
