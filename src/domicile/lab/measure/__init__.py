"""Measure, on a real Xen with real guests, how many memory accesses go to a remote node.

QEMU's software emulation runs a plug-in (`access_counter.c`) that counts every access by CPU and by node; `run`
starts a lab for a `Scenario`, measures a window, and gives a `Report`.
"""
