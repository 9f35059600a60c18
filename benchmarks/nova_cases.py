"""Cases for the comparison with Nova: random ones of all its shapes, and those that it needs long for.

A case is what JSON can say, since it goes to another interpreter: `host` and `cells` are lists of cells.
"""

from __future__ import annotations

import random
from typing import Any

__all__ = ["all_fit", "few_fit", "fitting_last", "one_is_particular", "random_case"]

Case = dict[str, Any]


def random_case(chance: random.Random) -> Case:
    """A small host and a guest for it."""
    policy = chance.choice([None, "shared", "dedicated", "dedicated", "mixed"])
    paged, legacy = chance.random() < 0.4, chance.random() < 0.5
    threads = chance.choice([1, 2, 2, 4])
    count = chance.randint(1, 6)
    host = [_host_cell(chance, number, threads, paged=paged, legacy=legacy) for number in range(count)]
    size = None
    if paged and chance.random() < 0.7:
        size = chance.choice([4, 2048, 2048, 1048576, -1, -2, -3])
    alike = chance.random() < 0.5
    first = _shape(chance, policy, size)
    cells = [first if alike else _shape(chance, policy, size) for _ in range(chance.randint(1, min(count, 4)))]
    return {
        "host": host,
        "cells": [_numbered(cell, number) for number, cell in enumerate(cells)],
        "limits": chance.choice([None, {"cpu": chance.choice([1.0, 2.0, 4.0]), "ram": chance.choice([1.0, 1.5])}]),
        "isolated_emulator": policy == "dedicated" and chance.random() < 0.3,
        "pci": _devices(chance, count) if chance.random() < 0.4 else None,
        "alike": alike,
        "pairs": True,
        "limit_s": 20.0,
    }


def _host_cell(chance: random.Random, number: int, threads: int, *, paged: bool, legacy: bool) -> Case:
    cpus = list(range(number * 8, number * 8 + 8))
    # hosts set up in the old way have the same CPUs for both; else they are apart
    dedicated = cpus if legacy else cpus[: 4 + 4 * chance.randint(0, 1)]
    shared = cpus if legacy else cpus[len(dedicated) :]
    memory = chance.choice([2048, 4096, 8192])
    pages = []
    if paged:
        small = memory // 2 * 256
        pages = [_pages(4, small, chance.randint(0, small))]
        if chance.random() < 0.8:
            pages.append(_pages(2048, 512, chance.randint(0, 512)))
        if chance.random() < 0.5:
            pages.append(_pages(1048576, 2, chance.randint(0, 2)))
    return {
        "id": number,
        "cpuset": shared,
        "pcpuset": dedicated,
        "memory": memory,
        "cpu_usage": chance.randint(0, 12),
        "memory_usage": chance.randint(0, memory),
        "pinned": chance.sample(dedicated, chance.randint(0, len(dedicated) - 1)),
        "siblings": [cpus[at : at + threads] for at in range(0, 8, threads)],
        "mempages": pages,
    }


def _pages(size_kb: int, total: int, used: int) -> Case:
    return {"size_kb": size_kb, "total": total, "used": used, "reserved": 0}


def _shape(chance: random.Random, policy: str | None, size: int | None) -> Case:
    vcpus = chance.choice([1, 2, 2, 3, 4, 6])
    pinned = {"dedicated": vcpus, "mixed": chance.randint(1, vcpus)}.get(policy or "", 0)
    return {
        "cpuset": vcpus - pinned,
        "pcpuset": pinned,
        "memory": chance.choice([256, 512, 1024, 1023, 2048, 3072]),
        "pagesize": size,
        "cpu_policy": policy,
        "thread_policy": chance.choice([None, "prefer", "isolate", "require"]) if pinned else None,
    }


def _numbered(shape: Case, number: int) -> Case:
    """A guest's cell: the counts of CPUs as sets of vCPUs."""
    shared, pinned, first = shape["cpuset"], shape["pcpuset"], number * 16
    return shape | {
        "id": number,
        "cpuset": list(range(first, first + shared)),
        "pcpuset": list(range(first + shared, first + shared + pinned)),
    }


def _devices(chance: random.Random, cells: int) -> Case:
    products = ["1521", "0d26"][: chance.randint(1, 2)]
    places = [*range(cells), None]
    return {
        "pools": [[product, chance.choice(places), chance.randint(1, 2)] for product in products for _ in range(3)],
        "requests": [
            [product, chance.randint(1, 3), chance.choice([None, "legacy", "required", "preferred"])]
            for product in products
        ],
    }


def _plain(count: int, memory: list[int], usage: list[int]) -> list[Case]:
    return [
        {
            "id": number,
            "cpuset": list(range(number * 16, number * 16 + 16)),
            "pcpuset": [],
            "memory": memory[number],
            "cpu_usage": usage[number],
            "memory_usage": 0,
            "pinned": [],
            "siblings": [[cpu] for cpu in range(number * 16, number * 16 + 16)],
            "mempages": [],
        }
        for number in range(count)
    ]


def _case(host: list[Case], memory: list[int], limit_s: float) -> Case:
    shape = {"cpuset": 4, "pcpuset": 0, "pagesize": None, "cpu_policy": "shared", "thread_policy": None}
    return {
        "host": host,
        "cells": [_numbered(shape | {"memory": mib}, number) for number, mib in enumerate(memory)],
        "limits": {"cpu": 16.0, "ram": 1.0},
        "isolated_emulator": False,
        "pci": None,
        "limit_s": limit_s,
    }


def all_fit(cells: int, host: int, limit_s: float) -> Case:
    """Every cell fits everywhere: Nova's first try is right."""
    return _case(_plain(host, [65536] * host, [0] * host), [8192] * cells, limit_s)


def few_fit(cells: int, host: int, limit_s: float) -> Case:
    """The answer is no: one host cell too few has the memory, and they are the last that Nova looks at."""
    enough = cells - 1
    return _case(
        _plain(host, [4096] * (host - enough) + [65536] * enough, [0] * (host - enough) + [4] * enough),
        [8192] * cells,
        limit_s,
    )


def fitting_last(cells: int, host: int, limit_s: float) -> Case:
    """The answer is yes, on the host cells that Nova looks at last, the ones in use."""
    rest = host - cells
    return _case(_plain(host, [4096] * rest + [65536] * cells, [0] * rest + [4] * cells), [8192] * cells, limit_s)


def one_is_particular(cells: int, host: int, limit_s: float) -> Case:
    """The answer is yes: all but the last cell fit everywhere, that one only where Nova puts the first one first."""
    return _case(_plain(host, [131072] + [65536] * (host - 1), [0] * host), [8192] * (cells - 1) + [98304], limit_s)
