"""Distances, latencies and bandwidths between nodes as tables with the heat of each figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from domicile.cli.draw_nodes import Glyphs
from domicile.topology.check import UNREACHABLE
from domicile.topology.model import Topology

__all__ = ["Matrix", "matrices"]

COLD, WARM, HOT = (46, 112, 62), (176, 132, 24), (168, 44, 40)
UNKNOWN = Style(color="bright_black")
NO_HEAT = 1.02
"""Figures that differ by less than this factor are alike."""

NOBODY_MEASURED = "-"
SYMBOLS = "123456789abcdefghijklmnopqrstuvwxyz"
WIDEST = 62
"""Columns that a matrix may take before its figures become symbols: half of a wide terminal."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix to be drawn. `width` is the columns that it takes."""

    title: str
    ids: Sequence[int]
    texts: Sequence[Sequence[str]]
    styles: Sequence[Sequence[Style]]
    legend: Text | None
    label: int
    cell: int
    explanation: str = ""

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return max(self.label + 1 + self.cell * len(self.ids), len(self.title) + len(self.explanation))

    def view(self, width: int) -> RenderableType:
        """The drawn matrix; what it is about where it is wider than there is room."""
        title = Text(self.title, style="bold")
        title.append(self.explanation, style="not bold bright_black")
        if self.width > width:
            return Text(f"{self.title}: {len(self.ids)} nodes are too many for this width; --json has it")
        lines = [title]
        if self.cell > 1:
            head = " " * (self.label + 1) + "".join(f"{node:>{self.cell - 1}} " for node in self.ids)
            lines.append(Text(head.rstrip(), style="bright_black"))
        for node, texts, styles in zip(self.ids, self.texts, self.styles, strict=True):
            if set(texts) == {NOBODY_MEASURED}:  # a node without CPUs
                continue
            line = Text(f"{node:>{self.label}} ", style="bright_black")
            for text, style in zip(texts, styles, strict=True):
                line.append(f"{text:>{self.cell - 1}} " if self.cell > 1 else text, style=style)
            lines.append(line)
        if self.legend is not None:
            lines.append(self.legend)
        for line in lines:
            line.no_wrap = True
        if self.legend is not None:
            self.legend.no_wrap = False
        return Group(*lines)


def matrices(topology: Topology, glyphs: Glyphs) -> list[Matrix]:
    """What is known of the way from each node's CPUs (rows) to each node's memory (columns)."""
    found = []
    if topology.distances is not None and len(topology.nodes) > 1:
        found.append(_matrix("distance", topology, topology.distances, glyphs))
    if topology.latency_ns is not None:
        found.append(_matrix("latency, ns", topology, topology.latency_ns, glyphs))
    if topology.bandwidth_gbs is not None:
        found.append(_matrix("bandwidth, GB/s", topology, topology.bandwidth_gbs, glyphs, more_is_better=True))
    if found:
        found[0] = replace(found[0], explanation=f" (row{glyphs.arrow}column)")
    return found


def _matrix(
    title: str,
    topology: Topology,
    rows: Sequence[Sequence[float | None]],
    glyphs: Glyphs,
    *,
    more_is_better: bool = False,
) -> Matrix:
    """Figures with their heat; as symbols with a legend where the figures themselves would be too wide."""
    figures = [figure for row in rows for figure in row if figure is not None]
    reachable = [figure for figure in figures if figure != UNREACHABLE or title != "distance"]
    low, high = min(reachable, default=1.0), max(reachable, default=1.0)

    def style(figure: float | None) -> Style:
        if figure is None:
            return UNKNOWN
        return _heat(figure, low, high, more_is_better=more_is_better)

    ids = topology.node_ids
    label = len(str(ids[-1]))
    digits = 0 if low >= 10 or all(figure == int(figure) for figure in figures) else 1 if low >= 1 else 2
    texts = [[NOBODY_MEASURED if figure is None else f"{figure:.{digits}f}" for figure in row] for row in rows]
    cell = max(label, *(len(text) for row in texts for text in row)) + 2
    styles = [[style(figure) for figure in row] for row in rows]
    if label + 1 + cell * len(ids) <= WIDEST:
        return Matrix(title, ids, texts, styles, None, label, cell)
    symbols = _symbols(sorted(set(figures), reverse=more_is_better), glyphs)
    texts = [[NOBODY_MEASURED if figure is None else symbols[figure] for figure in row] for row in rows]
    shown: dict[str, list[float]] = {}
    for figure, symbol in symbols.items():
        shown.setdefault(symbol, []).append(figure)
    legend = Text()
    for symbol, of in shown.items():
        legend.append(f" {symbol} ", style=style(sum(of) / len(of)))
        legend.append("-".join(f" {figure:.{digits}f}" for figure in dict.fromkeys((of[0], of[-1]))) + "  ")
    return Matrix(title, ids, texts, styles, legend, label, 2 if label + 1 + 2 * len(ids) <= WIDEST else 1)


def _symbols(ordered: Sequence[float], glyphs: Glyphs) -> dict[float, str]:
    """A symbol for each figure, the best being a dot; neighbours share one where there are too many."""
    names = [glyphs.dot, *SYMBOLS[: 9 if len(ordered) > len(SYMBOLS) else None]]
    step = max(math.ceil(len(ordered) / len(names)), 1)
    return {figure: names[position // step] for position, figure in enumerate(ordered)}


def _heat(figure: float, low: float, high: float, *, more_is_better: bool) -> Style:
    """Green for the best, red for the worst, by ratio."""
    if high / low < NO_HEAT:
        share = 0.0
    else:
        share = min(max(math.log(figure / low) / math.log(high / low), 0.0), 1.0)
        share = 1 - share if more_is_better else share
    begin, end, part = (COLD, WARM, share * 2) if share < 0.5 else (WARM, HOT, share * 2 - 1)
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(begin, end, strict=True))
    return Style(color="white", bgcolor=f"rgb({red},{green},{blue})")
