"""A machine as a person sees it: `domicile topology`.

Sockets and nodes are boxes with their CPUs, memory and devices; what is far is in the matrices beside them. A machine
of many nodes becomes a table, one of many CPUs shows ranges.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from domicile.cli.draw_matrix import Matrix, matrices
from domicile.cli.draw_nodes import Glyphs, boxes, memory, node_table
from domicile.cli.output import plain
from domicile.topology.ids import format_ids
from domicile.topology.model import Topology

__all__ = ["TopologyView"]

MOST_BOXES = 16
LEAST_BOX_WIDTH = 44
GAP = 2
MOST_NOTES = 12


class TopologyView:
    """A topology that rich can print, at any width."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        del console
        return Measurement(min(LEAST_BOX_WIDTH, options.max_width), options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = Glyphs.ascii() if options.ascii_only else Glyphs()
        topology, width = self.topology, options.max_width
        yield self._headline(glyphs)
        yield Text(self._facts(glyphs))
        yield Text()
        figures = matrices(topology, glyphs)
        beside = max((matrix.width for matrix in figures), default=0)
        if len(topology.nodes) > MOST_BOXES:
            yield node_table(topology, glyphs)
            yield from self._beneath(figures, glyphs, width)
        elif figures and width - beside - GAP >= LEAST_BOX_WIDTH:
            grid = Table.grid(padding=(0, GAP, 0, 0))
            room = width - beside - GAP
            grid.add_column(width=room, overflow=glyphs.overflow)
            grid.add_column(width=beside, overflow=glyphs.overflow)
            grid.add_row(boxes(topology, glyphs, room), _stacked(figures))
            yield grid
        else:
            yield boxes(topology, glyphs, width)
            yield from self._beneath(figures, glyphs, width)
        yield from self._notes()

    def _headline(self, glyphs: Glyphs) -> Text:
        """What it is and where it is from."""
        name, source = plain(self.topology.name), plain(self.topology.source)
        origin = f"  {glyphs.dot} {source}" if name and source != name else ""
        return Text.assemble((name or source, "bold"), (origin, "bright_black"))

    def _facts(self, glyphs: Glyphs) -> str:
        """Its size in a line."""
        topology = self.topology
        sockets = {cpu.socket for cpu in topology.cpus if cpu.socket is not None}
        cores = sum(topology.cores_by_node.values())
        told = all(cpu.core is not None for cpu in topology.cpus)
        facts = [_count(len(sockets), "socket")] if sockets else []
        facts.append(_count(len(topology.nodes), "node"))
        facts += [_count(cores, "core")] if told and cores else []
        facts.append(_count(len(topology.cpus), "CPU"))
        facts.append(memory(sum(node.memory_mib for node in topology.nodes)))
        free = [node.free_mib for node in topology.nodes if node.free_mib is not None]
        facts += [f"{memory(sum(free))} free"] if len(free) == len(topology.nodes) else []
        facts += [_count(len(topology.devices), "PCI device")] if topology.devices else []
        return f" {glyphs.dot} ".join(facts)

    def _beneath(self, figures: Sequence[Matrix], glyphs: Glyphs, width: int) -> RenderResult:
        """The matrices under the nodes, as many to a line as fit."""
        line: list[Matrix] = []
        for matrix in [*figures, None]:
            taken = sum(one.width + GAP for one in line)
            if line and (matrix is None or taken + matrix.width > width):
                yield Text()
                grid = Table.grid(padding=(0, GAP, 0, 0))
                for _ in line:
                    grid.add_column(overflow=glyphs.overflow)
                grid.add_row(*(one.view(width) for one in line))
                yield grid
                line = []
            if matrix is not None:
                line.append(matrix)

    def _notes(self) -> RenderResult:
        """What is offline, on no node, and what the reader has to say."""
        topology = self.topology
        lines = []
        if topology.offline_cpus:
            lines.append(f"offline CPUs: {format_ids(topology.offline_cpus)}")
        astray = [cpu.id for cpu in topology.cpus if cpu.node is None]
        if astray:
            lines.append(f"CPUs on no node: {format_ids(astray)}")
        homeless = sum(device.node is None for device in topology.devices)
        if homeless:
            lines.append(f"{_count(homeless, 'PCI device')} on no node")
        lines += [f"note: {plain(note)}" for note in topology.notes[:MOST_NOTES]]
        left = len(topology.notes) - MOST_NOTES
        if left > 0:
            lines.append(f"{left} more notes in --json")
        if lines:
            yield Text()
        for line in lines:
            yield Text(line, style="yellow" if line.startswith("note") else "bright_black")


def _stacked(figures: Sequence[Matrix]) -> RenderableType:
    """Matrices one under the other."""
    parts: list[RenderableType] = []
    for matrix in figures:
        if parts:
            parts.append(Text())
        parts.append(matrix.view(matrix.width))
    return Group(*parts)


def _count(number: int, what: str) -> str:
    """ "1 node", "4 nodes"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
