"""Where Dom0 should live: on which nodes, with how many vCPUs and how much memory, and how Xen is told at boot."""
