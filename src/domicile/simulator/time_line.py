"""A run over time in a few hundred points, however long it is: for who draws it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from domicile.simulator.run import Sample

__all__ = ["TimeLine", "resampled"]

MOST_POINTS = 512
Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class TimeLine:
    """Takes the series as it comes (a `Sink`); when there are too many points, neighbours become one.

    Each point is of `seconds`, up to `ends_s`. By domain (D) `remote` and `slowdown`, by node (N) `busy` and
    `controller`, as in the summary; nan where nothing ran.
    """

    domains: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    ends_s: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    _points: list[Floats] = field(default_factory=list)

    def write(self, sample: Sample) -> None:
        """One more point."""
        summary = sample.summary
        self.domains = tuple(domain.name for domain in summary.domains)
        self.nodes = tuple(node.node for node in summary.nodes)
        figures: list[float | None] = [domain.remote_share for domain in summary.domains]
        figures += [domain.slowdown for domain in summary.domains]
        figures += [node.busy for node in summary.nodes]
        figures += [node.controller for node in summary.nodes]
        self.ends_s.append(sample.time_s)
        self.seconds.append(summary.seconds)
        self._points.append(np.array([np.nan if figure is None else figure for figure in figures]))
        if len(self._points) > MOST_POINTS:
            self._halve()

    @property
    def remote(self) -> Floats:
        """Share of remote accesses, D x points."""
        return self._rows(0, len(self.domains))

    @property
    def slowdown(self) -> Floats:
        """Slowdown, D x points."""
        return self._rows(len(self.domains), len(self.domains))

    @property
    def busy(self) -> Floats:
        """Share of the pCPUs' time, N x points."""
        return self._rows(2 * len(self.domains), len(self.nodes))

    @property
    def controller(self) -> Floats:
        """Memory utilisation, N x points."""
        return self._rows(2 * len(self.domains) + len(self.nodes), len(self.nodes))

    def _rows(self, first: int, count: int) -> Floats:
        if not self._points:
            return np.zeros((count, 0))
        return np.asarray(np.array(self._points).T[first : first + count], dtype=np.float64)

    def _halve(self) -> None:
        even = len(self._points) // 2 * 2
        points, seconds = np.array(self._points[:even]), np.array(self.seconds[:even])
        weights = np.where(np.isnan(points), 0.0, seconds[:, None])
        sums = (np.nan_to_num(points) * weights).reshape(even // 2, 2, -1).sum(axis=1)
        there = weights.reshape(even // 2, 2, -1).sum(axis=1)
        merged = np.divide(sums, there, out=np.full_like(sums, np.nan), where=there > 0)
        self._points[:even] = list(merged)
        self.seconds[:even] = seconds.reshape(-1, 2).sum(axis=1).tolist()
        self.ends_s[:even] = self.ends_s[1:even:2]


def resampled(values: Floats, ends_s: Floats, seconds: Floats, cells: int) -> Floats:
    """Rows of values (R x points) as their means over equal parts of the time (R x cells); nan where there are none."""
    if not len(ends_s):
        return np.full((len(values), cells), np.nan)
    begin_s = float(ends_s[0] - seconds[0])
    edges = np.linspace(begin_s, float(ends_s[-1]), cells + 1)
    times = np.concatenate([[begin_s], ends_s])
    known = ~np.isnan(values)
    zero = np.zeros((len(values), 1))
    spent = np.concatenate([zero, np.cumsum(known * seconds, axis=1)], axis=1)
    total = np.concatenate([zero, np.cumsum(np.nan_to_num(values) * seconds, axis=1)], axis=1)
    within = np.array([np.diff(np.interp(edges, times, row)) for row in spent]).reshape(len(values), cells)
    sums = np.array([np.diff(np.interp(edges, times, row)) for row in total]).reshape(len(values), cells)
    means: Floats = np.divide(sums, within, out=np.full((len(values), cells), np.nan), where=within > 1e-9)
    return means
