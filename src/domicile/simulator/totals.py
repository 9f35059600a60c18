"""What a whole simulation comes to: sums over its epochs, of bounded size however long it runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.simulator.ballooning import BalloonRecord
from domicile.simulator.cold_pages import PoolRecord
from domicile.simulator.epoch import Epoch
from domicile.simulator.migrations import MigrationRecord
from domicile.simulator.page_sharing import SharingRecord
from domicile.simulator.xen_time import XenRecord

__all__ = ["DomainSummary", "NodeSummary", "Summary", "Totals"]

Floats = npt.NDArray[np.float64]

LEAST_S = 1.0
"""The shortest time over which a slowdown is told: of single epochs it would be that of a few requests."""


@dataclass(frozen=True, slots=True)
class DomainSummary:
    """A domain over the time that it was there. Slowdown is (time run + time waited) / work, 1.0 at best, None for one
    that did nothing; `worst_slowdown` that of its worst second. `work_s`: vCPU seconds of work at the best speed;
    `cpus`: pCPUs' worth of time that it had; shares and rates as in `Epoch`, None where nothing ran or moved."""

    name: str
    there_s: float
    slowdown: float | None
    worst_slowdown: float | None
    work_s: float
    cpus: float
    remote_share: float | None
    home_share: float | None
    moves_per_s: float
    node_moves_per_s: float
    bandwidth_gbs: float
    refused: str = ""
    io_gbs: float = 0.0
    io_remote_share: float | None = None


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """A node: share of its pCPUs' time used, and of its memory bandwidth; `free_mib` at the end."""

    node: int
    busy: float
    controller: float
    free_mib: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A simulation's result. `seconds` is the simulated time counted, `complete` whether it came to its end.

    `migrations` and `balloons`: all that were asked for, those of the warm-up too. `sharing` and `pool`: as they are at
    the end, None on a host without. `xen`: what Xen's own memory cost. All of these are left out of a time series.
    """

    seconds: float
    complete: bool
    domains: tuple[DomainSummary, ...]
    nodes: tuple[NodeSummary, ...]
    migrations: tuple[MigrationRecord, ...] = ()
    balloons: tuple[BalloonRecord, ...] = ()
    sharing: SharingRecord | None = None
    pool: PoolRecord | None = None
    xen: XenRecord | None = None


class Totals:
    """Sums up epochs. D domains, N nodes."""

    def __init__(self, domains: int, nodes: int) -> None:
        self.seconds = 0.0
        self._there = np.zeros(domains)
        self._ran, self._waited, self._work = np.zeros(domains), np.zeros(domains), np.zeros(domains)
        self._remote, self._home, self._traffic = np.zeros(domains), np.zeros(domains), np.zeros(domains)
        self._moves, self._node_moves = np.zeros(domains), np.zeros(domains)
        self._busy, self._controller, self._free = np.zeros(nodes), np.zeros(nodes), np.zeros(nodes)
        self._worst, self._io, self._io_remote = np.zeros(domains), np.zeros(domains), np.zeros(domains)
        self._open_s, self._open_time, self._open_work = np.zeros(domains), np.zeros(domains), np.zeros(domains)

    def add(self, epoch: Epoch) -> None:
        """Count one more epoch."""
        seconds = epoch.end_s - epoch.start_s
        ran = epoch.ran_s.sum(axis=1)
        self.seconds += seconds
        self._there += epoch.active * seconds
        self._ran += ran
        self._waited += epoch.waited_s
        self._work += epoch.work_s
        self._remote += epoch.remote * ran
        self._home += epoch.home * ran
        self._traffic += epoch.bandwidth_gbs * seconds
        self._io += epoch.io_gbs * seconds
        self._io_remote += epoch.io_gbs * epoch.io_remote * seconds
        self._moves += epoch.moves
        self._node_moves += epoch.node_moves
        self._busy += epoch.busy * seconds
        self._controller += epoch.controller * seconds
        self._free = epoch.free_mib
        self._open_s += epoch.active * seconds
        self._open_time += ran + epoch.waited_s
        self._open_work += epoch.work_s
        # a second in which nothing got done counts with the next one in which something did
        full = (self._open_s >= LEAST_S - 1e-9) & (self._open_work > 0)
        slowdown = self._open_time / np.where(full, self._open_work, 1.0)
        self._worst = np.where(full, np.maximum(self._worst, slowdown), self._worst)
        for array in (self._open_s, self._open_time, self._open_work):
            array[full] = 0.0

    def summary(
        self, names: tuple[str, ...], nodes: tuple[int, ...], refused: dict[str, str], complete: bool
    ) -> Summary:
        """The result so far."""
        span = max(self.seconds, 1e-9)
        domains = []
        for row, name in enumerate(names):
            there, ran, work = max(self._there[row], 1e-9), self._ran[row], self._work[row]
            slowdown = float((ran + self._waited[row]) / work) if work > 0 else None
            worst = max(float(self._worst[row]), slowdown) if slowdown is not None else None
            domains.append(
                DomainSummary(
                    name=name,
                    there_s=float(self._there[row]),
                    slowdown=slowdown,
                    worst_slowdown=worst,
                    work_s=float(work),
                    cpus=float(ran / there),
                    remote_share=float(self._remote[row] / ran) if ran > 0 else None,
                    home_share=float(self._home[row] / ran) if ran > 0 else None,
                    moves_per_s=float(self._moves[row] / there),
                    node_moves_per_s=float(self._node_moves[row] / there),
                    bandwidth_gbs=float(self._traffic[row] / there),
                    refused=refused.get(name, ""),
                    io_gbs=float(self._io[row] / there),
                    io_remote_share=float(self._io_remote[row] / self._io[row]) if self._io[row] > 0 else None,
                )
            )
        return Summary(
            seconds=self.seconds,
            complete=complete,
            domains=tuple(domains),
            nodes=tuple(
                NodeSummary(
                    node, float(self._busy[row] / span), float(self._controller[row] / span), int(self._free[row])
                )
                for row, node in enumerate(nodes)
            ),
        )
