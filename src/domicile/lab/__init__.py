"""The lab: a real Xen on an emulated NUMA machine, in QEMU, started in seconds."""

from domicile.lab.lab import Lab
from domicile.lab.machine import Machine, load_machine, preset_names

__all__ = ["Lab", "Machine", "load_machine", "preset_names"]
