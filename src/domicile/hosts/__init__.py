"""Hosts: a real Xen (here, over SSH, in the lab) or a simulated one, all behind the `Host` protocol."""
