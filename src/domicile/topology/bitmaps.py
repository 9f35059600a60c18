"""Sets of CPUs and nodes as Linux and hwloc write them, as Python integers: bit n set = id n is in the set.

Linux: `%*pb` masks (`00000000,0000ff03`) and `%*pbl` lists (`0-3,8`), lib/vsprintf.c. hwloc: `hwloc_bitmap_snprintf`
strings (`0x00000001,,0x0000ff03`, empty group = 0, `0xf...f` = all ids above), hwloc/bitmap.c; an infinite set is a
negative integer, so that `&` with a finite one works. Every parser raises `ValueError` with the reason, and refuses
sets that reach beyond the largest CPU id before it builds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from domicile.topology.check import MAX_CPU_ID

__all__ = ["ids_of", "mask_of", "parse_hwloc_bitmap", "parse_kernel_list", "parse_kernel_mask"]

GROUP_BITS = 32
GROUP_DIGITS = GROUP_BITS // 4
LONE_GROUP_DIGITS = (MAX_CPU_ID + 1) // 4
RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
HEX = re.compile(r"[0-9a-fA-F]+")
ALL_ABOVE = "0xf...f"


def parse_kernel_list(text: str, largest: int = MAX_CPU_ID) -> int:
    """The set that a list such as `0-3,8` stands for; empty text is the empty set."""
    mask = 0
    text = text.strip()
    for part in text.split(",") if text else ():
        match = RANGE.fullmatch(part.strip())
        if not match:
            raise ValueError(f"{_shown(part)} is no id and no range of ids")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise ValueError(f"the range {part.strip()} runs backwards")
        if last > largest:
            raise ValueError(f"no such id as {last} can be (0 to {largest})")
        mask |= ((1 << (last - first + 1)) - 1) << first
    return mask


def parse_kernel_mask(text: str) -> int:
    """The set that a hexadecimal mask in groups of 32 bits, highest first, stands for."""
    # trees made by hand have C's prefix, which the kernel has not
    groups = [group.removeprefix("0x") for group in text.strip().split(",")]
    return _bounded(_join_groups(groups, allow_empty=False))


def parse_hwloc_bitmap(text: str) -> int:
    """The set that a hwloc bitmap stands for; negative when it is infinite."""
    groups = text.strip().split(",")
    infinite = groups[0] == ALL_ABOVE
    if infinite:
        groups = groups[1:]
    bare = [group[2:] if group[:2] in ("0x", "0X") else group for group in groups]
    if any(group in ("0x", "0X") for group in groups):
        raise ValueError(f"{_shown(text)} is no bitmap")
    low = _bounded(_join_groups(bare, allow_empty=True)) if bare else 0
    return low | (-1 << (GROUP_BITS * len(groups))) if infinite else low


def mask_of(ids: Iterable[int]) -> int:
    """The set of these ids."""
    found = list(ids)
    # bits in bytes, and one integer at the end: linear, where or-ing them in one by one is quadratic
    bits = bytearray(max(found, default=0) // 8 + 1)
    for one in found:
        bits[one >> 3] |= 1 << (one & 7)
    return int.from_bytes(bits, "little")


def ids_of(mask: int) -> tuple[int, ...]:
    """The ids in a finite set, ascending."""
    if mask < 0:
        raise ValueError("the set has no end")
    # a string search per set bit: linear, where shifting the integer down bit by bit is quadratic
    digits = bin(mask)[:1:-1]
    found = []
    at = digits.find("1")
    while at >= 0:
        found.append(at)
        at = digits.find("1", at + 1)
    return tuple(found)


def _join_groups(groups: list[str], *, allow_empty: bool) -> int:
    """Groups of hexadecimal digits, highest first, as one integer; a lone group may be longer than 32 bits."""
    if len(groups) > LONE_GROUP_DIGITS // GROUP_DIGITS + 1:
        raise ValueError("the mask is longer than any machine's")
    widest = GROUP_DIGITS if len(groups) > 1 else LONE_GROUP_DIGITS
    mask = 0
    for group in groups:
        if allow_empty and not group and len(groups) > 1:
            value = 0
        elif HEX.fullmatch(group) and len(group) <= widest:
            value = int(group, 16)
        else:
            raise ValueError(f"{_shown(group)} is no part of a mask")
        mask = mask << GROUP_BITS | value
    return mask


def _bounded(mask: int) -> int:
    if mask.bit_length() > MAX_CPU_ID + 1:
        raise ValueError(f"no such id as {mask.bit_length() - 1} can be (0 to {MAX_CPU_ID})")
    return mask


def _shown(text: str) -> str:
    """A piece of bad text, cut and quoted, for an error's line."""
    return repr(text if len(text) <= 24 else text[:24] + "…")
