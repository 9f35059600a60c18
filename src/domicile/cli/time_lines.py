"""A run over time as text: a line for each node and domain, whose height in every column is how much it was then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from domicile.simulator.time_line import TimeLine, resampled

__all__ = ["TimeLines"]

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-=+*%#"
"""From the least to the most; the second where the terminal's encoding lacks the first."""

LABEL, RANGE = 14, 10
MOST_CELLS, LEAST_CELLS = 60, 8
MOST_DOMAINS = 16
MOST_SLOWDOWN = 4.0
"""The top of the scale: a domain that was paused was slower by far, and would flatten all others."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Chart:
    """Rows of figures (R x points) on a scale that all rows share, and three colours: for a little, more, a lot."""

    title: str
    values: Floats
    low: float
    high: float
    percent: bool
    styles: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class TimeLines:
    """The picture: nodes above, domains below, two charts side by side each. Draws itself as wide as it may be."""

    line: TimeLine
    warm_up_s: float = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich asks for it with the width that there is."""
        line = self.line
        if not line.ends_s:
            return
        cells = min((options.max_width - LABEL - 2 * RANGE - 4) // 2, MOST_CELLS)
        if cells < LEAST_CELLS:
            return
        levels = ASCII if options.ascii_only else BLOCKS
        load, far = ("cyan", "cyan", "bright_cyan"), ("green", "yellow", "red")
        busy = _Chart("pCPUs busy", line.busy, 0.0, 1.0, True, load)
        memory = _Chart("memory busy", line.controller, 0.0, 1.0, True, load)
        yield from self._block([f"node {node}" for node in line.nodes], (busy, memory), cells, levels)
        kept = self._most_telling()
        slowest = float(np.nanmax(line.slowdown[kept], initial=1.0))
        top = min(max(slowest, 1.1), MOST_SLOWDOWN)
        scale = f"1 to {top:.1f}" if slowest <= top else f"1 to {top:.0f} and more"
        yield Text()
        remote = _Chart("remote accesses", line.remote[kept], 0.0, 1.0, True, far)
        slow = _Chart(f"slowdown ({scale})", line.slowdown[kept], 1.0, top, False, far)
        yield from self._block([line.domains[row] for row in kept], (remote, slow), cells, levels)
        begin_s = line.ends_s[0] - line.seconds[0]
        warm_up = f", {self.warm_up_s:g} s of it warm-up" if self.warm_up_s > begin_s else ""
        span = f"time from left to right: {begin_s:g} to {line.ends_s[-1]:g} s{warm_up}"
        yield Text(" " * LABEL + span, style="dim", no_wrap=True)
        if len(kept) < len(line.domains):
            yield Text(f"{len(line.domains) - len(kept)} more; --picture and --series have all", style="dim")

    def _most_telling(self) -> list[int]:
        """The domains to show, in their order: those whose remote share and slowdown changed most."""
        if len(self.line.domains) <= MOST_DOMAINS:
            return list(range(len(self.line.domains)))
        told = _spans(self.line.remote) + _spans(self.line.slowdown)
        return sorted(np.argsort(-told, kind="stable")[:MOST_DOMAINS].tolist())

    def _block(self, names: list[str], charts: tuple[_Chart, _Chart], cells: int, levels: str) -> Iterator[Text]:
        ends_s, seconds = np.array(self.line.ends_s), np.array(self.line.seconds)
        heads = [chart.title.ljust(cells + RANGE + 2)[: cells + RANGE + 2] for chart in charts]
        yield Text(" " * LABEL + "".join(heads).rstrip(), style="bold", no_wrap=True)
        drawn = [resampled(chart.values, ends_s, seconds, cells) for chart in charts]
        for row, name in enumerate(names):
            text = Text(_cut(name, LABEL - 1).ljust(LABEL), no_wrap=True)
            for chart, values in zip(charts, drawn, strict=True):
                _draw(text, chart, values[row], levels)
                text.append(f" {_range(chart, values[row])}".ljust(RANGE + 2))
            text.rstrip()
            yield text


def _draw(text: Text, chart: _Chart, values: Floats, levels: str) -> None:
    for value in values.tolist():
        if np.isnan(value):
            text.append(" ")
            continue
        share = min(max((value - chart.low) / (chart.high - chart.low), 0.0), 1.0)
        style = chart.styles[min(int(share * 3), 2)]
        text.append(levels[min(int(share * len(levels)), len(levels) - 1)], style=style)


def _range(chart: _Chart, values: Floats) -> str:
    """The least and the most of a row."""
    known = values[~np.isnan(values)]
    if not known.size:
        return "-"
    least, most = float(known.min()), float(known.max())
    if chart.percent:
        first, last = f"{least:.0%}".removesuffix("%"), f"{most:.0%}"
        return last if f"{first}%" == last else f"{first}-{last}"
    first, last = f"{least:.2f}", f"{most:.2f}"
    return last if first == last else f"{first}-{last}"


def _spans(values: Floats) -> Floats:
    """How much each row changed; 0 for one without figures."""
    low = np.nanmin(np.where(np.isnan(values), np.inf, values), axis=1, initial=np.inf)
    high = np.nanmax(np.where(np.isnan(values), -np.inf, values), axis=1, initial=-np.inf)
    return np.where(high >= low, high - low, 0.0)


def _cut(name: str, width: int) -> str:
    """The name, its middle left out where it is too long: copies differ at their end."""
    return name if len(name) <= width else f"{name[: width - 6]}..{name[-4:]}"
