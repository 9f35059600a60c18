"""A round of rebalancing: what to move now, and why nothing else.

Every move lowers the sum of all slowdowns, as far as each counts (`policies.counting`) and with what nodes cost that
are short of memory, by `Rules.start` at least, so that under a load that stays as it is only so many moves can follow
each other, whatever their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats
from domicile.policies.known import characters
from domicile.policies.migration.records import Cost, Option
from domicile.policies.rebalancing.records import Considered, History, Move, RebalancePlan, Rules, Swap
from domicile.policies.rebalancing.remembering import Memory, tidied
from domicile.policies.rebalancing.screen import screen
from domicile.policies.rebalancing.single import WAYS, Weighed, sets_for, weigh, why_left
from domicile.policies.rebalancing.standing import Standing
from domicile.policies.rebalancing.swaps import Places, WeighedSwap, find_swaps
from domicile.policies.scheduling.watch import Watch
from domicile.state.model import Snapshot
from domicile.topology.ids import format_ids

__all__ = ["rebalance"]

USUAL_RULES = Rules()
NO_HISTORY = History()

NOTHING: Mapping[int, int] = MappingProxyType({})

TARGETS = 3
"""Nodes that are weighed closely for a domain."""


def rebalance(
    snapshot: Snapshot,
    watch: Watch,
    history: History = NO_HISTORY,
    rules: Rules = USUAL_RULES,
    assumptions: Assumptions = DEFAULT,
) -> RebalancePlan:
    """What to move now. `watch` has this snapshot folded in; `history` is what the last plan handed back, with what was
    begun and ended since."""
    now_s = snapshot.taken_at
    history = tidied(history, (domain.uuid for domain in snapshot.domains), now_s, rules)
    if watch.seen_s < rules.seen_s:
        return RebalancePlan(history=history)
    rules = replace(rules, characters=characters(rules.characters, watch.traffic_gbs(snapshot)))
    assumptions = replace(assumptions, traffic_gbs=rules.unknown_gbs)
    standing = Standing.of(snapshot, watch.by_name(snapshot), history, rules, assumptions)
    places = Places(standing, screen(standing))
    round_ = _Round(standing, watch, Memory.of(history, now_s, rules))
    round_.singles(places)
    if rules.swaps:
        round_.swap_two(places)
    return RebalancePlan(
        tuple(round_.moves),
        tuple(round_.swaps),
        tuple(round_.considered),
        round_.memory.to_be_kept(),
        round_.weighed,
    )


@dataclass
class _Round:
    standing: Standing
    watch: Watch
    memory: Memory
    moves: list[Move] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)
    considered: list[Considered] = field(default_factory=list)
    no_room: list[tuple[int, int]] = field(default_factory=list)
    weighed: int = 0

    @property
    def _rules(self) -> Rules:
        return self.standing.rules

    def singles(self, places: Places) -> None:
        """Moves of one domain each."""
        values = places.values
        best = values.max(axis=1) if values.size else np.zeros(0)
        wide = self._wide(places)
        worth = [int(row) for row in np.flatnonzero((best >= self._rules.stop) | wide)]
        for row in sorted(worth, key=lambda one: self._order(one, best)):
            domain = self.standing.domain(row)
            if self._not_now(domain.uuid):
                continue
            if why := self._left(row):
                gain = 0.0 if wide[row] else float(best[row])
                self.memory.looked[domain.uuid] = self.memory.now_s
                if gain >= self._rules.start:
                    self._refuse(row, tuple(self._ids([int(np.argmax(values[row]))])), gain, why)
                continue
            targets = sets_for(self.standing, row) if wide[row] else self._targets(places, row)
            if not targets:
                continue
            self.weighed += 1
            self._consider(weigh(self.standing, row, targets))

    def _not_now(self, uuid: str) -> bool:
        """Whether a domain's turn to be weighed is another round's. What is waited for is kept until then."""
        waits, full = self.memory.waits((uuid,)), self.weighed >= self._rules.looks
        if waits is None:
            return full or uuid in self.memory.looked or self.memory.pending() >= self._rules.looks
        if full or not self.memory.is_due(waits):
            self.memory.waiting[waits.key] = waits
            return True
        return False

    def _order(self, row: int, best: Floats) -> tuple[bool, float, str]:
        """Those that are waited for, then who gains most."""
        uuid = self.standing.domain(row).uuid
        return self.memory.waits((uuid,)) is None, -round(float(best[row]), 9), uuid

    def _wide(self, places: Places) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Domains that fit on no node with all their vCPUs, and cost something where they are."""
        standing = self.standing
        largest = standing.machine.pcpus.max(axis=1)
        found = np.zeros(len(standing.snapshot.domains), dtype=np.bool_)
        for row, domain in enumerate(standing.snapshot.domains):
            if len(domain.vcpus) > largest[standing.tenants.pool[row]] and domain.id != 0:
                found[row] = places.screened.now[row] >= self._rules.start
        return found

    def _targets(self, places: Places, row: int) -> list[tuple[int, ...]]:
        """The nodes that promise most, those with room before the others."""
        values = places.values[row]
        order = sorted(np.flatnonzero(values >= self._rules.stop), key=lambda node: (-values[node], node))
        need = self.standing.domain(row).memory_mib
        roomy = [node for node in order if places.available_mib[node] >= need]
        chosen = roomy[:TARGETS]
        # the best of all, even without room: to say why not, and for a balloon or a swap
        if order[0] not in chosen:
            chosen = [*chosen[: TARGETS - 1], order[0]]
            self.no_room.append((row, int(order[0])))
        return [(int(node),) for node in chosen]

    def _left(self, row: int) -> str:
        """Why a domain is not looked at."""
        domain = self.standing.domain(row)
        if domain.uuid not in self.watch.demand:
            return "it has not been seen to run for long enough"
        return self.memory.held_off(domain.uuid) or why_left(self.standing, row)

    def _consider(self, weighed: Weighed) -> None:
        row, option = weighed.row, weighed.option
        uuid = self.standing.domain(row).uuid
        if option is None or option.cost is None or weighed.gain < self._rules.stop:
            self.memory.looked[uuid] = self.memory.now_s
            gain = f"it gains {weighed.gain:.3f}, and {self._rules.start:g} is asked for"
            self._refuse(row, weighed.wanted, weighed.gain, weighed.refused or gain, weighed.short_mib)
            return
        move = self._move(row, option, weighed.gain)
        why = self.memory.wait((uuid,), weighed.gain, option.cost)
        why = why or self.memory.no_budget() or self.memory.pair_busy(move.sources, option.nodes)
        if why:
            if (uuid,) not in self.memory.waiting:
                self.memory.looked[uuid] = self.memory.now_s
            self._refuse(row, option.nodes, weighed.gain, why)
            return
        self.memory.waiting.pop((uuid,), None)
        self.memory.begin(move)
        self.moves.append(move)
        self.standing = self.standing.moved(row, option.nodes, option.memory_mib, option.cost.twice_mib)

    def swap_two(self, places: Places) -> None:
        """One swap at most, in a round that moves nobody alone."""
        pairs = [each for each in self.memory.history.waiting if len(each.key) > 1]
        due = [] if self.moves else [each.key for each in pairs if self.memory.is_due(each)]
        self.memory.waiting.update((each.key, each) for each in pairs if each.key not in due)
        if self.moves:
            return
        found = find_swaps(replace(places, standing=self.standing), self.memory, due, self.no_room, self._left)
        self.weighed += 2 * bool(found)
        for swap in found:
            if self._begin(swap):
                return

    def _begin(self, found: WeighedSwap) -> bool:
        """Have two domains change places, if that was waited for; whether they do."""
        first, second = (
            self._move(row, option, found.gain / 2.0) for row, option in zip(found.rows, found.ways, strict=True)
        )
        key = _sorted((first.uuid, second.uuid))
        why = self.memory.wait(key, found.gain, found.cost)
        why = why or self.memory.no_budget(2) or self.memory.pair_busy(first.sources, first.option.nodes)
        if why:
            for move in (first, second):
                told = f"it would change places with {second.domain if move is first else first.domain}: {why}"
                self.considered.append(Considered(move.domain, move.uuid, move.option.nodes, found.gain, told))
            return False
        self.memory.waiting.pop(key, None)
        for move in (first, second):
            self.memory.begin(move)
        reason = (
            f"{first.domain} and {second.domain} change places: all domains together gain {found.gain:.3f}, which "
            f"neither gains alone"
        )
        self.swaps.append(Swap(first, second, found.gain, reason))
        return True

    def _move(self, row: int, option: Option, gain: float) -> Move:
        domain, cost = self.standing.domain(row), option.cost or Cost()
        total = sum((domain.memory_by_node_mib or {}).values())
        now = {node: mib for node, mib in (domain.memory_by_node_mib or {}).items() if mib >= 0.01 * total}
        pays_after_s = cost.slowdown_s / gain if gain > 0 else float("inf")
        pause = f", pause {cost.pause_s:.1f} s" if cost.pause_s else ""
        reason = (
            f"its memory is on {_nodes(tuple(sorted(now)))}; on {_nodes(option.nodes)} all domains together gain "
            f"{gain:.3f} in slowdown; {WAYS[option.way]} moves {cost.moved_mib:.0f} MiB in {cost.time_s:.1f} s{pause} "
            f"and pays after {pays_after_s:.0f} s"
        )
        sources = tuple(sorted(node for node in now if node not in option.nodes or len(option.nodes) > 1))
        return Move(domain.name, domain.uuid, option, gain, pays_after_s, reason, sources)

    def _refuse(
        self, row: int, nodes: tuple[int, ...], gain: float, why: str, short_mib: Mapping[int, int] = NOTHING
    ) -> None:
        domain = self.standing.domain(row)
        self.considered.append(Considered(domain.name, domain.uuid, nodes, gain, why, short_mib))

    def _ids(self, nodes: list[int]) -> list[int]:
        return [self.standing.machine.topology.node_ids[node] for node in nodes]


def _sorted(pair: tuple[str, str]) -> tuple[str, ...]:
    return tuple(sorted(pair))


def _nodes(nodes: tuple[int, ...]) -> str:
    return f"node{'s' if len(nodes) > 1 else ''} {format_ids(nodes)}"
