"""`domicile place --pool`: many guests onto many hosts."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from domicile.cli.output import say_if_compiling, show
from domicile.cli.pool_files import read_guests, read_hosts
from domicile.cli.waiting import patient_bar
from domicile.policies.pool import PoolGuest, PoolHost, PoolPlan, Refusal, place_in_pool

__all__ = ["place_pool"]

COMPILING_S = 15
"""CPU time of compiling the pool's loops, on a machine of 2021."""

REFUSALS_SHOWN = 8


def place_pool(hosts_path: str, guest_paths: Sequence[str], *, as_json: bool) -> None:
    """Read the files, place all guests, print where. Leaves with 1 if some guest is nowhere; raises `BadInput`."""
    began = time.monotonic()
    hosts = read_hosts(hosts_path)
    guests = read_guests(guest_paths, hosts[0].machine.topology)
    with say_if_compiling("placement over a pool", COMPILING_S), patient_bar("guests", len(guests)) as tell:
        plan = place_in_pool(hosts, guests, tell=tell or (lambda _: None))
    if as_json:
        _write_lines(_lines(hosts, guests, plan))
    else:
        show(_summary(hosts, guests, plan, time.monotonic() - began))
    if plan.refusals:
        sys.exit(1)


def _lines(hosts: Sequence[PoolHost], guests: Sequence[PoolGuest], plan: PoolPlan) -> Iterator[dict[str, object]]:
    """One object a guest, in their order."""
    refused = {refusal.guest: refusal for refusal in plan.refusals}
    host_of, slowdown = plan.host.tolist(), plan.slowdown.tolist()
    member, memory = plan.member.tolist(), plan.memory_mib.tolist()
    for number, guest in enumerate(guests):
        if number in refused:
            yield {"domain": guest.name, "host": None, "reason": _reason(hosts, guest, refused[number])}
            continue
        host = hosts[host_of[number]]
        nodes = [(id_, index) for index, id_ in enumerate(host.machine.topology.node_ids) if member[number][index]]
        yield {
            "domain": guest.name,
            "host": host.name,
            "nodes": [id_ for id_, _ in nodes],
            "memory_mib": {str(id_): memory[number][index] for id_, index in nodes},
            "predicted_slowdown": round(slowdown[number], 4),
        }


def _write_lines(lines: Iterator[dict[str, object]]) -> None:
    encode = msgspec.json.Encoder().encode
    try:
        for line in lines:
            # msgspec is ten times as fast, json writes in ASCII whatever the locale
            fast = encode(line)
            sys.stdout.write((fast.decode("ascii") if fast.isascii() else json.dumps(line)) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _reason(hosts: Sequence[PoolHost], guest: PoolGuest, refusal: Refusal) -> str:
    most = f"{hosts[refusal.host].name} had most for it, {refusal.most_mib} MiB"
    if refusal.most_mib >= guest.need_mib:
        return f"needs {guest.need_mib} MiB; {most}, but on no set of nodes that is weighed"
    return f"needs {guest.need_mib} MiB; {most}"


def _summary(hosts: Sequence[PoolHost], guests: Sequence[PoolGuest], plan: PoolPlan, took_s: float) -> RenderableType:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    placed = np.flatnonzero(plan.host >= 0)
    table.add_row("guests placed", f"{len(placed):,} of {len(guests):,}")
    table.add_row("hosts used", f"{len(np.unique(plan.host[placed])):,} of {len(hosts):,}")
    if len(placed):
        widths = np.bincount(plan.member[placed].sum(axis=1))
        spans = ", ".join(f"{count:,} on {nodes}" for nodes, count in enumerate(widths.tolist()) if count)
        worst = int(placed[np.argmax(plan.slowdown[placed])])
        table.add_row("nodes spanned", spans)
        table.add_row("predicted slowdown", f"mean {plan.slowdown[placed].mean():.3f}")
        where = f"{guests[worst].name} on {hosts[int(plan.host[worst])].name}"
        table.add_row("", f"worst {plan.slowdown[worst]:.3f} ({where})")
    table.add_row("time", f"{took_s:.1f} s")
    parts: list[RenderableType] = [table]
    if plan.refusals:
        parts.append(Text(f"{len(plan.refusals):,} refused", style="bold red"))
        parts += [
            Text(f"  {guests[one.guest].name}: {_reason(hosts, guests[one.guest], one)}")
            for one in plan.refusals[:REFUSALS_SHOWN]
        ]
        if len(plan.refusals) > REFUSALS_SHOWN:
            parts.append(Text(f"  and {len(plan.refusals) - REFUSALS_SHOWN:,} more; --json names all"))
    return Group(*parts)
