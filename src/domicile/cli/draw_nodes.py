"""Nodes drawn: boxes with CPUs, memory and devices, grouped by socket; or a row each where there are many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, OverflowMethod, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from domicile.cli.output import plain
from domicile.topology.ids import format_ids
from domicile.topology.model import Cpu, Device, MemoryKind, Node, Topology, by_core

__all__ = ["Glyphs", "boxes", "memory", "node_table"]

MOST_CPU_LINES = 4
"""Of cores drawn one by one in a node's box; more become ranges."""

MOST_DEVICES = 4
LEAST_NODE_WIDTH = 28
WIDEST_BAR = 16
NARROWEST_BAR = 3
TABLE_BAR = 10
CORE = "white on grey23"
FAINT = "bright_black"


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Characters beyond ASCII, and what stands for them where the terminal has none."""

    dot: str = "·"
    joint: str = "·"
    full: str = "█"
    empty: str = "░"
    device: str = "◆"
    times: str = "\N{MULTIPLICATION SIGN}"
    more: str = "…"
    arrow: str = "→"

    @property
    def overflow(self) -> OverflowMethod:
        """What becomes of text that is too long for its place: rich's ellipsis is not ASCII."""
        return "ellipsis" if self.more == "…" else "crop"

    @classmethod
    def ascii(cls) -> Glyphs:
        """For terminals without Unicode."""
        return cls(dot="-", joint="+", full="#", empty=".", device="*", times="x", more="...", arrow=" to ")


def memory(mib: int) -> str:
    """Memory as people read it."""
    if mib < 1024:
        return f"{mib} MiB"
    amount, unit = (mib / 1024, "GiB") if mib < 10 << 20 else (mib / (1 << 20), "TiB")
    digits = f"{amount:.0f}" if amount >= 100 else f"{amount:.1f}".removesuffix(".0")
    return f"{digits} {unit}"


def boxes(topology: Topology, glyphs: Glyphs, width: int) -> RenderableType:
    """Every node as a box; nodes that share a socket within a box for it."""
    by_node: dict[int, list[Cpu]] = {node: [] for node in topology.node_ids}
    for cpu in topology.cpus:
        if cpu.node is not None:
            by_node[cpu.node].append(cpu)
    groups: dict[int | None, list[Node]] = defaultdict(list)
    for node in topology.nodes:
        sockets = {cpu.socket for cpu in by_node[node.id]}
        groups[next(iter(sockets)) if len(sockets) == 1 else None].append(node)
    nested = any(socket is not None and len(nodes) > 1 for socket, nodes in groups.items())
    devices: dict[int | None, list[Device]] = defaultdict(list)
    for device in topology.devices:
        devices[device.node].append(device)
    parts: list[RenderableType] = []
    loose: list[Node] = []
    for socket, nodes in groups.items():
        if socket is None or not nested:
            loose += nodes
            continue
        inner = _side_by_side(
            [(node, by_node[node.id], devices[node.id]) for node in nodes], glyphs, width - 4, name_socket=False
        )
        parts.append(Panel(inner, title=f"socket {socket}", title_align="left", box=box.SQUARE, border_style=FAINT))
    if loose:
        loose.sort(key=lambda node: node.id)
        entries = [(node, by_node[node.id], devices[node.id]) for node in loose]
        parts.append(_side_by_side(entries, glyphs, width, name_socket=True))
    return Group(*parts)


def _side_by_side(
    entries: Sequence[tuple[Node, list[Cpu], list[Device]]], glyphs: Glyphs, width: int, *, name_socket: bool
) -> Table:
    """Boxes of nodes, as many to a line as leave each the room it needs."""
    columns = max(min(len(entries), (width + 1) // (LEAST_NODE_WIDTH + 1)), 1)
    room = (width - (columns - 1)) // columns
    grid = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(columns):
        grid.add_column(width=room, overflow=glyphs.overflow)
    drawn = [_node_box(*entry, glyphs, room - 4, name_socket=name_socket) for entry in entries]
    for at in range(0, len(drawn), columns):
        line = drawn[at : at + columns]
        height = max(lines for _, lines in line)
        for panel, _ in line:
            panel.height = height + 2
        grid.add_row(*(panel for panel, _ in line))
    return grid


def _node_box(
    node: Node, cpus: list[Cpu], devices: list[Device], glyphs: Glyphs, width: int, *, name_socket: bool
) -> tuple[Panel, int]:
    """A node and how many lines are in its box."""
    sockets = sorted({cpu.socket for cpu in cpus if cpu.socket is not None})
    title = f"node {node.id}"
    if sockets and name_socket:
        title += f" {glyphs.dot} socket{'s' * (len(sockets) > 1)} {format_ids(sockets)}"
    lines = _cpu_lines(cpus, glyphs, width)
    lines.append(_memory_line(node, glyphs, width))
    if node.memory_side_cache_mib:
        lines.append(Text(f"behind a {memory(node.memory_side_cache_mib)} memory-side cache", style=FAINT))
    for device in devices[:MOST_DEVICES]:
        lines.append(Text.assemble((f"{glyphs.device} ", "magenta"), device.address, (f" {plain(device.name)}", FAINT)))
    if len(devices) > MOST_DEVICES:
        lines.append(Text(f"{glyphs.device} {len(devices) - MOST_DEVICES} more PCI devices", style=FAINT))
    for line in lines:
        line.no_wrap = True
        line.overflow = glyphs.overflow
    colour = "cyan" if cpus else "magenta"
    panel = Panel(Group(*lines), title=title, title_align="left", border_style=colour, box=box.ROUNDED)
    return panel, len(lines)


def _cpu_lines(cpus: Sequence[Cpu], glyphs: Glyphs, width: int) -> list[Text]:
    """The CPUs, siblings joined: cell by cell, socket by socket, or in ranges where there are too many."""
    if not cpus:
        return [Text("no CPUs", style=FAINT)]
    by_socket: dict[int | None, list[Cpu]] = defaultdict(list)
    for cpu in cpus:
        by_socket[cpu.socket].append(cpu)
    if len(by_socket) == 1:
        lines = _cell_lines(by_core(cpus), glyphs, width, "")
    else:
        lines = [
            line
            for socket, own in by_socket.items()
            for line in _cell_lines(by_core(own), glyphs, width, f"socket {'?' if socket is None else socket} ")
        ]
    if len(lines) <= MOST_CPU_LINES:
        return lines
    ranges = Text(f"CPUs {format_ids(cpu.id for cpu in cpus)}")
    cores = by_core(cpus)
    smt = f" {glyphs.times} threads" if len(cores) < len(cpus) else ""
    return [ranges, Text(f"cores{smt}: {_shape(cores, glyphs)}", style=FAINT)]


def _cell_lines(cores: Sequence[Sequence[int]], glyphs: Glyphs, width: int, label: str) -> list[Text]:
    """A cell for each core, as many to a line as fit behind the label."""
    cells = [glyphs.joint.join(map(str, core)) for core in cores]
    size = max(len(cell) for cell in cells) + 2
    columns = max((width - len(label) + 1) // (size + 1), 1)
    lines = []
    for at in range(0, len(cells), columns):
        line = Text.assemble((" " * len(label) if at else label, FAINT))
        for position, cell in enumerate(cells[at : at + columns]):
            line.append(" " if position else "")
            line.append(f" {cell:>{size - 2}} ", style=CORE)
        lines.append(line)
    return lines


def _shape(cores: Sequence[Sequence[int]], glyphs: Glyphs) -> str:
    """How many cores, and threads of each: "16 x 2"."""
    threads = {len(core) for core in cores}
    if threads == {1}:
        return str(len(cores))
    return f"{len(cores)} {glyphs.times} {'-'.join(str(count) for count in sorted({min(threads), max(threads)}))}"


def _bar(node: Node, glyphs: Glyphs, width: int) -> Text:
    """What is not free, out of the size; nothing where the free memory is not known."""
    if node.free_mib is None or not node.memory_mib:
        return Text()
    share = 1 - min(node.free_mib / node.memory_mib, 1.0)
    filled = round(share * width)
    colour = "green" if share < 0.7 else "yellow" if share < 0.95 else "red"
    return Text.assemble((glyphs.full * filled, colour), (glyphs.empty * (width - filled), FAINT))


def _memory_line(node: Node, glyphs: Glyphs, width: int) -> Text:
    """A bar of what is taken, free and size, and what kind it is where it is not plain DRAM."""
    if not node.memory_mib:
        return Text("no memory", style=FAINT)
    size = memory(node.memory_mib)
    kind = "" if node.kind is MemoryKind.DRAM else f" {node.kind.upper()}"
    if node.free_mib is None:
        return Text(f"{size}{kind}")
    free = memory(node.free_mib)
    if not node.free_mib or free.split()[1] == size.split()[1]:
        free = free.split()[0]
    words = f"{free} of {size}{kind} free"
    room = min(width - len(words) - 1, WIDEST_BAR)
    return Text.assemble(_bar(node, glyphs, room), f" {words}") if room >= NARROWEST_BAR else Text(words)


def node_table(topology: Topology, glyphs: Glyphs) -> Table:
    """A row for each node: for machines with too many of them for boxes."""
    cpus: dict[int | None, list[Cpu]] = defaultdict(list)
    for cpu in topology.cpus:
        cpus[cpu.node].append(cpu)
    devices: dict[int | None, int] = defaultdict(int)
    for device in topology.devices:
        devices[device.node] += 1
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for heading in ("node", "socket", "CPUs", "cores", "memory", "free", "taken", "devices"):
        table.add_column(
            heading,
            justify="left" if heading in ("CPUs", "cores", "taken") else "right",
            overflow="fold" if heading == "CPUs" else glyphs.overflow,
            no_wrap=heading != "CPUs",
            ratio=1 if heading == "CPUs" else None,
        )
    for node in topology.nodes:
        own = cpus[node.id]
        sockets = {cpu.socket for cpu in own if cpu.socket is not None}
        kind = "" if node.kind is MemoryKind.DRAM else f" {node.kind.upper()}"
        table.add_row(
            Text(str(node.id), style="cyan" if own else "magenta"),
            format_ids(sockets) if sockets else "-",
            format_ids(cpu.id for cpu in own) if own else "none",
            _shape(by_core(own), glyphs) if own else "-",
            memory(node.memory_mib) + kind if node.memory_mib else "none",
            "-" if node.free_mib is None else memory(node.free_mib),
            _bar(node, glyphs, TABLE_BAR),
            str(devices[node.id] or "-"),
        )
    return table
