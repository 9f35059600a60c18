"""What to call a PCI device of which only numbers are known.

Source: the PCI Code and ID Assignment Specification 1.15, "Class Codes" (base classes).
"""

from __future__ import annotations

import re

__all__ = ["device_name"]

BASE_CLASSES = {
    0x01: "storage",
    0x02: "network",
    0x03: "display",
    0x04: "multimedia",
    0x05: "memory",
    0x06: "bridge",
    0x07: "communication",
    0x08: "system",
    0x09: "input",
    0x0B: "processor",
    0x0C: "serial bus",
    0x0D: "wireless",
    0x10: "encryption",
    0x11: "signal processing",
    0x12: "accelerator",
}
SUB_CLASSES = {0x0C04: "fibre channel"}
"""Sub-classes that are something else than their base class says."""

NUMBER = re.compile(r"(?:0x)?([0-9a-fA-F]{1,8})")


def device_name(class_code: str | None, vendor: str | None, device: str | None) -> str:
    """A name such as `network 8086:10fb`, of what is known; empty if nothing is.

    `class_code` is hexadecimal, base class first, in two (`02`), four (`0200`) or six digits (`0x020000`).
    """
    words = []
    code = NUMBER.fullmatch(class_code or "")
    if code:
        base = BASE_CLASSES.get(int(code[1][:2], 16), "")
        words.append(SUB_CLASSES.get(int(code[1][:4], 16), base) if len(code[1]) >= 4 else base)
    ids = [NUMBER.fullmatch(number or "") for number in (vendor, device)]
    if all(ids):
        words.append(":".join(match[1].lower().zfill(4) for match in ids if match))
    return " ".join(word for word in words if word)
