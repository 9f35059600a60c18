"""A simulated host, kept on disk: nodes, memory, domains and affinity without a hypervisor."""
