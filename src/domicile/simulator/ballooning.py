"""Guests' balloons for the engine: each with its guest's manners, and a record of what it was asked for and did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from domicile.simulator.guests import GuestSpec
from domicile.simulator.memory.balloon import Balloons
from domicile.simulator.memory.heap import Heap
from domicile.simulator.memory.pages import DomainPages
from domicile.state.model import PAGES_PER_MIB

__all__ = ["BalloonRecord", "Ballooning"]


@dataclass(frozen=True, slots=True)
class BalloonRecord:
    """A guest was asked to have `asked_mib` when it had `had_mib`; it has come to `has_mib`. `settled_s`: how long
    after it stopped there; None while it is at it. `short`: what Xen refused it on the way, in MiB, each try counted.
    """

    domain: str
    asked_s: float
    had_mib: int
    asked_mib: int
    has_mib: int
    settled_s: float | None
    short_mib: int = 0


@dataclass(slots=True)
class Ballooning:
    """The balloons, and the record of each request; a later one to the same guest replaces one that is under way."""

    _balloons: Balloons = field(default_factory=Balloons)
    _records: list[BalloonRecord] = field(default_factory=list)
    _open: dict[str, int] = field(default_factory=dict)

    @property
    def due(self) -> bool:
        """Whether any has something to do."""
        return bool(self._records) and self._balloons.due_s() < float("inf")

    @property
    def records(self) -> tuple[BalloonRecord, ...]:
        """What was asked for, in that order."""
        return tuple(self._records)

    def add(self, spec: GuestSpec, row: int, pages: int) -> None:
        """A guest with a balloon driver; `row` is its place in `DomainPages`."""
        self._balloons.add(spec.name, row, pages, spec.balloon)

    def remove(self, name: str) -> None:
        """The guest has gone."""
        self._balloons.remove(name)
        self._open.pop(name, None)

    def halt(self, name: str, heap: Heap) -> None:
        """Let a balloon stay where it is."""
        balloon = self._balloons.balloons[name]
        balloon.wanted, balloon.due_s = heap.size_of(name), float("inf")
        self._open.pop(name, None)

    def shift(self, name: str, pages: int) -> None:
        """So many pages have become a guest's own, or are so no more, and not by its balloon, which takes no notice."""
        self._balloons.balloons[name].wanted += pages

    def ask(self, name: str, memory_mib: int, now_s: float, heap: Heap, beside: int, heard: bool) -> None:
        """Ask a guest to have so much memory (`xl mem-set`); `beside`: pages that it has and that are not its own in
        the heap, as they are shared."""
        has = (heap.size_of(name) + beside) // PAGES_PER_MIB
        self._open.pop(name, None)
        if heard:
            self._balloons.set_target(name, max(memory_mib * PAGES_PER_MIB - beside, 0), now_s, heap)
            self._open[name] = len(self._records)
        self._records.append(BalloonRecord(name, now_s, has, memory_mib, has, None))

    def step(self, now_s: float, dt_s: float, heap: Heap, pages: DomainPages) -> Iterable[str]:
        """Let them go on; the guests whose memory changed."""
        starts = {name: max(now_s, self._balloons.balloons[name].due_s) for name in self._open}
        changed = []
        for done in self._balloons.step(now_s, dt_s, heap, pages):
            changed.append(done.domain)
            if done.domain in self._open:
                self._note(done.domain, pages, done.short)
                took_s = abs(int(done.change.sum())) / self._balloons.balloons[done.domain].manners.pages_per_s
                starts[done.domain] = min(starts[done.domain] + took_s, now_s + dt_s)
        for name, end_s in starts.items():
            if self._balloons.balloons[name].due_s == float("inf"):
                number = self._open.pop(name)
                record = self._records[number]
                self._records[number] = replace(record, settled_s=end_s - record.asked_s)
        return changed

    def _note(self, name: str, pages: DomainPages, short: int) -> None:
        number = self._open[name]
        parts = pages.parts_of(self._balloons.balloons[name].index)
        record = self._records[number]
        self._records[number] = replace(
            record,
            has_mib=int((pages.hot + pages.cold)[parts].sum()) // PAGES_PER_MIB,
            short_mib=record.short_mib + short // PAGES_PER_MIB,
        )
