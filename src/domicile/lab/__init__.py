"""The lab: a real Xen on an emulated NUMA machine, in QEMU, started in seconds."""
