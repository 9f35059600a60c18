"""A host as a person sees it: `domicile show`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from domicile.state.load import Load
from domicile.state.locality import home_nodes, remote_share, vcpu_share_by_node
from domicile.state.model import Domain, Snapshot
from domicile.state.moves import MoveState
from domicile.topology.ids import format_ids

__all__ = ["bar", "gib", "host_view", "percent"]

BAR_WIDTH = 10


def gib(mib: int | None) -> str:
    """Memory as people read it: MiB while it is small, GiB above."""
    if mib is None:
        return "?"
    return f"{mib} MiB" if mib < 10240 else f"{mib / 1024:.1f} GiB"


def percent(share: float | None) -> str:
    """A share as a whole percentage; "?" where it is not known."""
    return "?" if share is None else f"{share:.0%}"


def bar(share: float, width: int = BAR_WIDTH) -> Text:
    """A bar for a share of 0 to 1 (more is drawn full): green, then yellow, then red."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    colour = "green" if share < 0.7 else "yellow" if share < 0.95 else "red"
    return Text("█" * filled, style=colour) + Text("░" * (width - filled), style="bright_black")


def host_view(
    uri: str, snapshot: Snapshot, load: Load | None, domains: Sequence[Domain] | None = None
) -> RenderableType:
    """Headline, a table of nodes, one of domains (these, or all), what is being started, and notes."""
    cpus = len(snapshot.topology.cpus)
    facts = [f"Xen {snapshot.xen_version}" * bool(snapshot.xen_version), snapshot.scheduler]
    facts += [f"{len(snapshot.topology.nodes)} nodes", f"{cpus} pCPUs", f"{len(snapshot.domains)} domains"]
    parts: list[RenderableType] = [
        Text(uri, style="bold") + Text("  " + " · ".join(fact for fact in facts if fact), style="not bold"),
        _nodes(snapshot, load),
        _domains(snapshot, snapshot.domains if domains is None else domains, load),
    ]
    parts += [
        Text(
            f"starting {one.domain}: {gib(sum(one.memory_mib.values()))} reserved on node "
            f"{format_ids(one.memory_mib)} by {one.owner}",
            style="cyan",
        )
        for one in snapshot.reservations
    ]
    parts += [Text(_moving(move), style="cyan") for move in snapshot.moves]
    parts += [Text(f"saved on the host and not running: domain of UUID {uuid}", style="red") for uuid in snapshot.saved]
    if snapshot.halted:
        parts.append(Text(f"managers are stopped: {snapshot.halted}", style="red"))
    if snapshot.manager:
        parts.append(Text(f"managed by {snapshot.manager}", style="cyan"))
    parts += [Text(f"note: {note}", style="yellow") for note in snapshot.notes]
    return Group(*parts)


def _moving(move: MoveState) -> str:
    """A move that goes on, or that nobody has taken note of."""
    order = move.order
    what = f"moving {order.domain} to node {format_ids(order.nodes)} ({order.way})"
    if move.end is None:
        return f"{what}: {move.stage or 'beginning'}, {gib(move.done_mib)} of {gib(order.memory_mib)}"
    return f"{what}: {move.end}{f': {move.why}' if move.why else ''}; the next manager takes note of it"


def _nodes(snapshot: Snapshot, load: Load | None) -> Table:
    """A row for each node."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("node", justify="right")
    table.add_column("pCPUs")
    table.add_column("load" if load and load.nodes else "load (not known)", no_wrap=True)
    table.add_column("memory taken", no_wrap=True)
    table.add_column("free", justify="right")
    table.add_column("promised", justify="right")
    for node in snapshot.topology.nodes:
        cpus = snapshot.topology.cpus_by_node[node.id]
        busy = load.nodes.get(node.id) if load else None
        shown = Text("-") if busy is None or not cpus else bar(busy / len(cpus)) + f" {busy:.1f} of {len(cpus)}"
        size, free = node.memory_mib, node.free_mib
        taken = Text("-") if not size or free is None else bar(1 - free / size) + f" of {gib(size)}"
        promised = snapshot.outstanding_mib[node.id]
        table.add_row(str(node.id), format_ids(cpus), shown, taken, gib(free), gib(promised) if promised else "-")
    return table


def _domains(snapshot: Snapshot, domains: Iterable[Domain], load: Load | None) -> Table:
    """A row for each of these domains."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("domain", overflow="fold")
    table.add_column("id", justify="right")
    table.add_column("type")
    table.add_column("home")
    table.add_column("memory (MiB by node)", overflow="fold")
    table.add_column("vCPUs on pCPUs", overflow="fold")
    table.add_column("load", justify="right")
    table.add_column("remote", justify="right")
    told = [figure for figure in (_SLOWDOWN, _TRAFFIC) if load and figure.of(load)]
    for figure in told:
        table.add_column(figure.heading, justify="right")
    for domain in domains:
        remote = remote_share(domain, vcpu_share_by_node(domain, snapshot.topology))
        style = "red" if remote and remote >= 0.5 else "yellow" if remote and remote >= 0.1 else "green"
        used = load.domains.get(domain.name) if load else None
        name = Text(domain.name) + Text(" paused" if domain.paused else "", style="cyan")
        table.add_row(
            name,
            str(domain.id),
            domain.type or "-",
            _home(domain, snapshot),
            _memory(domain),
            _positions(domain),
            "?" if used is None else f"{used:.1f}",
            Text(percent(remote), style=style if remote is not None else ""),
            *[figure.shown(load, domain.name) for figure in told if load],
        )
    return table


@dataclass(frozen=True, slots=True)
class _Figure:
    """A column for what only some hosts tell of domains."""

    heading: str
    of: Callable[[Load], Mapping[str, float]]
    digits: int

    def shown(self, load: Load, domain: str) -> str:
        """The figure, "-" where there is none."""
        found = self.of(load).get(domain)
        return "-" if found is None else f"{found:.{self.digits}f}"


_SLOWDOWN = _Figure("slowdown", lambda load: load.slowdowns, 2)
"""How many times as long as at best, of those that worked."""
_TRAFFIC = _Figure("memory GB/s", lambda load: load.traffic_gbs, 1)


def _home(domain: Domain, snapshot: Snapshot) -> str:
    """The home nodes, "any" where a domain is bound to none, and how firmly it is bound: held is for a while, by us,
    and of some vCPUs or all."""
    nodes = home_nodes(domain, snapshot.topology)
    if set(nodes) >= {n for n, cpus in snapshot.topology.cpus_by_node.items() if cpus}:
        return "any"
    held = {vcpu.vcpu for vcpu in snapshot.holds if vcpu.uuid == domain.uuid}
    pool = next((pool.cpus for pool in snapshot.cpupools if pool.name == domain.cpupool), frozenset())
    pinned = any(not vcpu.hard_affinity >= pool and vcpu.id not in held for vcpu in domain.vcpus if vcpu.online)
    online = [vcpu.id for vcpu in domain.vcpus if vcpu.online]
    free = any(vcpu not in held for vcpu in online)
    by_us = (f" {len(held.intersection(online))}/{len(online)} held" if free else " held") if held else ""
    return format_ids(nodes) + (" pinned" if pinned else by_us)


def _memory(domain: Domain) -> str:
    """Memory by node, or just how much where no memory map was taken."""
    by_node = domain.memory_by_node_mib
    if by_node is None:
        return f"{domain.memory_mib} in all"
    return "  ".join(f"{node}: {mib}" for node, mib in sorted(by_node.items())) or "none"


def _positions(domain: Domain) -> str:
    """How many vCPUs, and the pCPUs that they ran on last."""
    online = [vcpu for vcpu in domain.vcpus if vcpu.online]
    ran = {vcpu.pcpu for vcpu in online if vcpu.pcpu is not None}
    return f"{len(online)} on {format_ids(ran)}" if ran else str(len(online))
