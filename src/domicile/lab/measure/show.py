"""A measurement for people: tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from domicile.lab.measure.result import GuestResult, Measurement, Window

__all__ = ["tables"]


def tables(found: Measurement) -> RenderableType:
    """The measurement as tables: for each window one of pCPUs, one of guests, and the shares."""
    looked = "every access counted" if found.every == 1 else f"1 access of {found.every} looked at, at random"
    head = f"{found.title or 'measurement'}: {found.machine}, Xen {found.xen_version}, {found.scheduler}; {looked}"
    parts: list[RenderableType] = [Text(head, style="bold")]
    for number, window in enumerate(found.windows, start=1):
        several = f"window {number}, " if len(found.windows) > 1 else ""
        parts += [
            _pcpus(window, f"{several}{window.seconds:.0f} s: accesses in millions"),
            _guests(window),
            _shares(window),
        ]
    return Group(*parts)


def _pcpus(window: Window, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    nodes = len(window.pcpus[0].accesses)
    for heading in ("pCPU", "node", *(f"to node {node}" for node in range(nodes)), "remote", "Xen's own", "remote"):
        table.add_column(heading, justify="right")
    for pcpu in window.pcpus:
        xen = sum(pcpu.xen_accesses)
        table.add_row(
            str(pcpu.cpu),
            str(pcpu.node),
            *(_millions(count, local=node == pcpu.node) for node, count in enumerate(pcpu.accesses)),
            _percent(pcpu.remote / (pcpu.local + pcpu.remote) if pcpu.local + pcpu.remote else None),
            _millions(xen),
            _percent((xen - pcpu.xen_accesses[pcpu.node]) / xen if xen else None),
        )
    return table


def _guests(window: Window) -> Table:
    table = Table(title="domains", title_justify="left")
    for heading in ("domain", "memory on", "vCPUs ran on", "accesses", "remote"):
        table.add_column(heading, justify="left" if heading in ("domain", "memory on", "vCPUs ran on") else "right")
    for guest in (*window.guests, window.dom0):
        table.add_row(*_guest_row(guest))
    return table


def _guest_row(guest: GuestResult) -> tuple[str, ...]:
    place = guest.place
    memory = ", ".join(f"node {node}: {pages / 256:.0f} MiB" for node, pages in sorted(place.pages_by_node.items()))
    return place.name, memory, _nodes(guest.ran_on), _millions(guest.accesses), _percent(guest.remote_share)


def _shares(window: Window) -> Table:
    table = Table(title="remote share", title_justify="left", show_header=False)
    table.add_row("of all accesses outside Xen", _percent(window.remote_share))
    table.add_row("of those to the guests' memory", _percent(window.guests_remote_share))
    table.add_row("of Xen's own", _percent(window.xen_remote_share))
    placed = window.loads + window.stores + window.xen_loads + window.xen_stores
    if placed and window.unplaced > placed / 1000:
        warning = f"{window.unplaced / (placed + window.unplaced):.1%} of accesses went to memory on no known node"
        table.add_row(Text(f"{warning}: do not trust the rest", style="red"), "")
    return table


def _nodes(shares: Mapping[int, float]) -> str:
    return ", ".join(f"node {node} {share:.0%}" for node, share in shares.items()) or "nowhere"


def _millions(count: int, *, local: bool = False) -> str:
    text = f"{count / 1e6:,.2f}"
    return f"[bold]{text}[/bold]" if local else text


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
