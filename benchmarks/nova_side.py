"""OpenStack Nova's side of the comparison, run by an interpreter that has the package `nova` and knows nothing of us.

Reads cases from standard input as JSON, one a line, and answers each with a line:

    {"answer": true, "cells": [3, 1], "cpu_s": 0.01, "fits": [[true, false], [true, true]]}

`answer` is null where `limit_s` of CPU time was not enough. `fits` (guest cells x host cells) is asked for with
`"pairs": true`: `_numa_fit_instance_cell` for each pair by itself, with a fresh copy of the guest's cell.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

__all__: list[str] = []

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"
# this file's folder has modules of the names of Nova's own
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

conf = importlib.import_module("nova.conf")
objects = importlib.import_module("nova.objects")
objects.register_all()
hardware = importlib.import_module("nova.virt.hardware")
stats = importlib.import_module("nova.pci.stats")
exception = importlib.import_module("nova.exception")

UUID = "00000000-0000-0000-0000-000000000000"


class _Enough(Exception):
    """The CPU time is used up."""


def _stop(*_: object) -> None:
    raise _Enough


def host_of(cells: list[dict[str, Any]]) -> Any:
    """The host's topology."""
    return objects.NUMATopology(cells=[_host_cell(cell) for cell in cells])


def _host_cell(cell: dict[str, Any]) -> Any:
    return objects.NUMACell(
        id=cell["id"],
        cpuset=set(cell["cpuset"]),
        pcpuset=set(cell["pcpuset"]),
        memory=cell["memory"],
        cpu_usage=cell["cpu_usage"],
        memory_usage=cell["memory_usage"],
        pinned_cpus=set(cell["pinned"]),
        siblings=[set(some) for some in cell["siblings"]],
        mempages=[objects.NUMAPagesTopology(**pages) for pages in cell["mempages"]],
        socket=None,
    )


def guest_cell(cell: dict[str, Any]) -> Any:
    """A cell of the guest, fresh: Nova writes into it."""
    return objects.InstanceNUMACell(
        id=cell["id"],
        cpuset=set(cell["cpuset"]),
        pcpuset=set(cell["pcpuset"]),
        memory=cell["memory"],
        pagesize=cell["pagesize"],
        cpu_policy=cell["cpu_policy"],
        cpu_thread_policy=cell["thread_policy"],
    )


def _devices(case: dict[str, Any], host: Any) -> tuple[Any, Any]:
    if not case.get("pci"):
        return None, None
    pools = stats.PciDeviceStats(host)
    pools.pools = [
        {
            "vendor_id": "8086",
            "product_id": product,
            "numa_node": node,
            "count": count,
            "devices": [],
            "dev_type": "type-PCI",
        }
        for product, node, count in case["pci"]["pools"]
    ]
    requests = [
        objects.InstancePCIRequest(
            count=count,
            spec=[{"vendor_id": "8086", "product_id": product}],
            numa_policy=policy,
            request_id=UUID,
            alias_name=None,
            requester_id=None,
        )
        for product, count, policy in case["pci"]["requests"]
    ]
    return objects.InstancePCIRequests(instance_uuid=UUID, requests=requests), pools


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """Nova's answer to a case, and what it took."""
    host = host_of(case["host"])
    ratios = case["limits"]
    limits = None
    if ratios:
        limits = objects.NUMATopologyLimits(cpu_allocation_ratio=ratios["cpu"], ram_allocation_ratio=ratios["ram"])
    guest = objects.InstanceNUMATopology(cells=[guest_cell(cell) for cell in case["cells"]])
    if case["isolated_emulator"]:
        guest.emulator_threads_policy = "isolate"
    requests, pools = _devices(case, host)
    found: dict[str, Any] = {}
    if case.get("pairs"):
        found["fits"] = [
            _row(case, cell, host, limits, reserved=number == 0) for number, cell in enumerate(case["cells"])
        ]
    signal.setitimer(signal.ITIMER_PROF, case["limit_s"])
    begin = time.process_time()
    try:
        got = hardware.numa_fit_instance_to_host(host, guest, {}, limits, requests and requests.requests, pools)
        found["answer"] = got is not None
        found["cells"] = [cell.id for cell in got.cells] if got is not None else []
    except _Enough:
        found["answer"] = None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    found["cpu_s"] = time.process_time() - begin
    return found


def _row(case: dict[str, Any], cell: dict[str, Any], host: Any, limits: Any, *, reserved: bool) -> list[bool]:
    row = []
    for host_cell in host.cells:
        try:
            fits = hardware._numa_fit_instance_cell(  # noqa: SLF001
                host_cell, guest_cell(cell), limits, int(reserved and case["isolated_emulator"])
            )
        except exception.MemoryPageSizeNotSupported:
            fits = None
        row.append(fits is not None)
    return row


logging.disable(logging.CRITICAL)
signal.signal(signal.SIGPROF, _stop)
for line in sys.stdin:
    sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
    sys.stdout.flush()
