"""How a guest's vCPUs and memory are divided over its virtual nodes: evenly, or as evenly as the nodes allow.

Memory is counted in whole MiB, as `size=` is, in multiples of 2 MiB but for what is left at the end. libxc fills a
virtual node from where the last one ended, in pages of 1 GiB, 2 MiB and 4 KiB as the guest-physical address and the
rest allow (`meminit_hvm`, tools/libs/guest/xg_dom_x86.c, Xen 4.17): with multiples of 2 MiB a boundary costs at most
one page of 1 GiB (it becomes 512 of 2 MiB) and never a page of 2 MiB. Boundaries on 1 GiB would make virtual nodes
uneven for that one page each, so they are not sought.
"""

from __future__ import annotations

from collections.abc import Sequence

from domicile.policies.placement.memory import in_proportion, spread_whole

__all__ = ["MEMORY_UNIT_MIB", "divided_memory", "divided_vcpus", "numbered", "roomy_vcpus"]

MEMORY_UNIT_MIB = 2


def divided_memory(total_mib: int, room_mib: Sequence[int]) -> list[int] | None:
    """MiB on each virtual node, as even as the room allows, with the exact sum; None where it does not fit.

    All parts are multiples of 2 MiB, but one that takes an odd MiB (and, where the room ends on odd ones, more).
    """
    units = [room // MEMORY_UNIT_MIB for room in room_mib]
    parts = spread_whole(total_mib // MEMORY_UNIT_MIB, units)
    if parts is None:
        return spread_whole(total_mib, list(room_mib))
    sizes = [part * MEMORY_UNIT_MIB for part in parts]
    rest = total_mib - sum(sizes)
    for index in range(len(sizes) - 1, -1, -1):
        if not rest:
            break
        if sizes[index] + rest <= room_mib[index]:
            sizes[index] += rest
            rest = 0
    return spread_whole(total_mib, list(room_mib)) if rest else sizes


def roomy_vcpus(total: int, parts: int) -> list[int]:
    """vCPUs on each virtual node, evenly; the first ones take what cannot be divided."""
    each, extra = divmod(total, parts)
    return [each + (index < extra) for index in range(parts)]


def divided_vcpus(total: int, pcpus: Sequence[int]) -> list[int]:
    """vCPUs on each virtual node: as even as their nodes' pCPUs allow; with more vCPUs than pCPUs, in proportion."""
    parts = spread_whole(total, list(pcpus))
    if parts is not None:
        return parts
    # in_proportion wants limits that are no less than the total; scaling all of them alike changes no part
    scale = -(-total // max(sum(pcpus), 1))
    return in_proportion(total, [count * scale for count in pcpus])


def numbered(counts: Sequence[int]) -> tuple[frozenset[int], ...]:
    """vCPU ids in order: the first virtual node has 0 and those that follow."""
    found, first = [], 0
    for count in counts:
        found.append(frozenset(range(first, first + count)))
        first += count
    return tuple(found)
