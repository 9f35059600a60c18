"""Which cell of a guest fits on which cell of a host by Nova's rules, as the input of `domicile.policies.fit`.

Source: nova 34.0.0, nova/virt/hardware.py (`_numa_fit_instance_cell`, `_pack_instance_onto_cores`,
`_numa_cell_supports_pagesize_request`), nova/objects/numa.py (`can_fit_pagesize`), nova/pci/stats.py
(`_filter_pools_for_numa_cells`). These rules are Nova's, not Xen's, and have no place in the product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from domicile.policies.fit import Requirement

__all__ = ["requirements_of", "rows_of"]

Cell = Mapping[str, Any]

SMALL, LARGE, ANY = -1, -2, -3
"""Nova's page sizes that are none: the smallest, any but the smallest, any."""

PINNED, SHARED = ("dedicated", "mixed"), ("shared", "mixed", None)


def rows_of(case: Mapping[str, Any]) -> list[int]:
    """Bit h of row v: host cell h can bear guest cell v."""
    rows = []
    for number, cell in enumerate(case["cells"]):
        reserved = int(case["isolated_emulator"] and number == 0)
        bits = 0
        for position, host in enumerate(case["host"]):
            if _memory(host, cell) and _cpus(host, cell, reserved) and _within_limits(host, cell, case["limits"]):
                bits |= 1 << position
        rows.append(bits)
    return rows


def requirements_of(case: Mapping[str, Any]) -> list[Requirement] | None:
    """What the devices ask of the chosen cells together; None where there are too few devices anywhere."""
    pci = case.get("pci") or {"requests": (), "pools": ()}
    found: list[Requirement] = []
    for product, count, policy in pci["requests"]:
        by_node = dict.fromkeys((*(host["id"] for host in case["host"]), None), 0)
        for name, node, devices in pci["pools"]:
            by_node[node] += devices if name == product else 0
        if sum(by_node.values()) < count:
            return None
        if policy == "preferred":
            continue
        nowhere = by_node[None] if policy in ("legacy", None) else 0
        found.append(Requirement(count - nowhere, tuple(by_node[host["id"]] for host in case["host"])))
    return found


def _memory(host: Cell, cell: Cell) -> bool:
    pinned = cell["cpu_policy"] in PINNED
    pages = {size["size_kb"]: size for size in host["mempages"]}
    sizes = sorted(pages)
    if cell["pagesize"]:
        usual = {SMALL: sizes[:1], LARGE: sizes[1:], ANY: sizes}
        asked = usual.get(cell["pagesize"], [cell["pagesize"]])
        return any(size in pages and _in_pages(pages[size], cell["memory"], free=True) for size in asked)
    if sizes:
        return _in_pages(pages[sizes[0]], cell["memory"], free=pinned)
    room = host["memory"] - (host["memory_usage"] if pinned else 0)
    return bool(cell["memory"] <= room)


def _in_pages(pages: Cell, memory_mib: int, *, free: bool) -> bool:
    count = pages["total"] - (pages["used"] + pages["reserved"] if free else 0)
    need_kib = memory_mib * 1024
    return bool(need_kib <= count * pages["size_kb"] and need_kib % pages["size_kb"] == 0)


def _cpus(host: Cell, cell: Cell, reserved: int) -> bool:
    if cell["cpu_policy"] in SHARED and len(cell["cpuset"]) > len(host["cpuset"]):
        return False
    return cell["cpu_policy"] not in PINNED or _pinned(host, cell, reserved)


def _pinned(host: Cell, cell: Cell, reserved: int) -> bool:
    """Whether the vCPUs get pCPUs of their own, and the emulator's thread (`reserved`) one beside them."""
    free = set(host["pcpuset"]) - set(host["pinned"])
    need = len(cell["pcpuset"])
    if need + reserved > len(free):
        return False
    threads = max(len(some) for some in host["siblings"])
    left = [len(free & set(some)) for some in host["siblings"]]
    if cell["thread_policy"] == "isolate":
        return _isolated(host, left, threads, need, reserved)
    return any(
        level * sum(count >= level for count in left) >= need and sum(left) >= need + reserved
        for level in range(2 if cell["thread_policy"] == "require" else 1, threads + 1)
    ) or (cell["thread_policy"] != "require" and sum(left) >= need + reserved)


def _isolated(host: Cell, left: Sequence[int], threads: int, need: int, reserved: int) -> bool:
    whole = sum(count >= threads for count in left)
    if threads != 1 and set(host["pcpuset"]) != set(host["cpuset"]):
        return False
    some = sum(count >= 1 for count in left)
    return 0 < need <= whole and some >= need + reserved


def _within_limits(host: Cell, cell: Cell, limits: Mapping[str, float] | None) -> bool:
    if limits is None or cell["cpu_policy"] not in SHARED:
        return True
    cpus = host["cpu_usage"] + len(cell["cpuset"]) <= len(host["cpuset"]) * limits["cpu"]
    memory = host["memory_usage"] + cell["memory"] <= host["memory"] * limits["ram"]
    return bool(cpus and memory)
