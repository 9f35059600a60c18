"""The hypervisor model: a NUMA host in simulated time, small enough to read in an hour, repeatable for a seed."""
