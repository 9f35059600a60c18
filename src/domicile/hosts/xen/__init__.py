"""A real Xen: this Dom0, or one over SSH."""
