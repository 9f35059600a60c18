"""The demonstration's guests: a mixed load for the machine of the preset `default`."""

from __future__ import annotations

from domicile.manager.guests import ConfigText
from domicile.state.request import Group, GroupKind, Intent

__all__ = ["INTENT", "NETWORK_CARD", "NVME_DRIVE", "guests"]

NETWORK_CARD = "0000:21:00.0"
NVME_DRIVE = "0000:c1:00.0"

INTENT = Intent(
    groups=(Group("shop", GroupKind.NEAR, ("web1", "cache")), Group("pair", GroupKind.APART, ("ha1", "ha2")))
)
"""The shop's web server talks to its cache; the two halves of a pair should not share a node."""

_GUESTS = (
    # name, type, vCPUs, memory in MiB, device
    ("web1", "pvh", 2, 2048, ""),
    ("batch1", "pvh", 3, 3072, ""),
    ("cache", "pvh", 2, 4096, ""),
    ("database", "hvm", 4, 8192, NVME_DRIVE),
    ("proxy", "hvm", 2, 1024, NETWORK_CARD),
    ("ha1", "pvh", 1, 1024, ""),
    ("ha2", "pvh", 1, 1024, ""),
    ("batch2", "pvh", 3, 3072, ""),
    ("analytics", "pvh", 6, 10240, ""),
)


def guests() -> list[ConfigText]:
    """The guests' configurations, in the order in which they are started."""
    return [ConfigText(f"{name}.cfg", _text(name, *rest)) for name, *rest in _GUESTS]  # type: ignore[arg-type]


def _text(name: str, kind: str, vcpus: int, memory_mib: int, device: str) -> str:
    lines = [f'name = "{name}"', f'type = "{kind}"', f"vcpus = {vcpus}", f"memory = {memory_mib}"]
    lines += ['kernel = "/boot/vmlinuz"'] * (kind != "hvm")
    lines += [f'pci = ["{device}"]'] * bool(device)
    return "\n".join(lines) + "\n"
