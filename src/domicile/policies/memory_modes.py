"""What a way of saving memory comes to on a host, and which of its modes is worth it: for page sharing and for tiering.

Memory is worth something only where there is too little of it. A node with CPUs is short of what it lacks of `reserve`
free; a mode's relief is how much of all nodes' shortage it ends. The best mode has the most relief among those that
slow domains down by no more than the limits; without a shortage it is `off`. All limits are assumptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from domicile.performance.curves import Floats
from domicile.policies.memory_load import MemoryLoad

__all__ = ["OFF", "USUAL_LIMITS", "Choice", "DomainEffect", "Effect", "Limits", "choose", "effect_of"]

OFF = "off"
LEAST_RELIEF = 0.01
"""Relief of less than this share of the shortage is none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`reserve`: the share of a node's memory that is to be free; what domains may lose, as slowdown: `mean_loss` on
    average over those that are busy, `worst_loss` any of them."""

    reserve: float = 0.2
    mean_loss: float = 0.02
    worst_loss: float = 0.05


USUAL_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class DomainEffect:
    """A domain under a mode: its slowdown, and what of it is the mode's doing (`loss`, negative if it gains); the share
    of its accesses that leave the node; `away_mib`: pages of it that are kept on none of its own nodes."""

    domain: str
    mode: str
    slowdown: float
    loss: float
    remote_share: float
    away_mib: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What a mode is predicted to come to, against nobody sharing or tiering.

    `freed_mib`: node id to memory freed there, negative where more is taken. `short_mib`, `relief_mib`: what nodes are
    short of without it, and how much of that it ends. `room_mib`: the most that is free on one node with CPUs.
    `busy_vcpus`: what it takes of the domains' own time. Means are over busy domains, Dom0 left out; `remote_share` by
    how busy they are. `exceptions`: domains with another mode because of what they would lose. `refused`: why it cannot
    be; then there are no figures.
    """

    mode: str
    freed_mib: Mapping[int, int]
    short_mib: int
    relief_mib: int
    room_mib: int
    mean_slowdown: float
    worst_slowdown: float
    mean_loss: float
    worst_loss: float
    remote_share: float
    busy_vcpus: float
    domains: tuple[DomainEffect, ...]
    exceptions: tuple[tuple[str, str], ...] = ()
    refused: str = ""

    @property
    def freed_in_all_mib(self) -> int:
        """Freed on all nodes together."""
        return sum(self.freed_mib.values())

    @classmethod
    def impossible(cls, mode: str, why: str) -> Effect:
        """A mode that this host has not."""
        return cls(mode, {}, 0, 0, 0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, (), refused=why)


@dataclass(frozen=True, slots=True)
class Choice:
    """The best mode of a host, with `exceptions` if that is better, and why; every mode, and why (not) for each."""

    best: Effect
    reason: str
    effects: tuple[Effect, ...]
    reasons: tuple[str, ...]


def effect_of(
    mode: str,
    modes: Sequence[str],
    load: MemoryLoad,
    freed: Floats,
    slowdown: tuple[Floats, Floats],
    accesses: Floats,
    away_mib: Floats,
    limits: Limits,
    busy_vcpus: float = 0.0,
) -> Effect:
    """Put an effect together. `modes`: of each domain (D); `freed`: MiB by node (N); `slowdown`: of each domain without
    and with it (D each); `accesses`: where its memory accesses go then (D x N)."""
    before, after = slowdown
    remote = load.remote_share(accesses)
    busy = load.busy
    short, still = (load.shortage(free, limits.reserve) for free in (load.free_mib, load.free_mib + freed))
    losses = (after - before)[busy]
    weight = load.demand[busy]
    return Effect(
        mode=mode,
        freed_mib={node: round(float(mib)) for node, mib in zip(load.node_ids, freed, strict=True) if round(mib)},
        short_mib=round(short),
        relief_mib=round(short - still),
        room_mib=load.room(load.free_mib + freed),
        mean_slowdown=float(after[busy].mean()) if len(losses) else 1.0,
        worst_slowdown=float(after[busy].max()) if len(losses) else 1.0,
        mean_loss=float(losses.mean()) if len(losses) else 0.0,
        worst_loss=float(losses.max()) if len(losses) else 0.0,
        remote_share=float((remote[busy] * weight).sum() / weight.sum()) if len(losses) else 0.0,
        busy_vcpus=busy_vcpus,
        domains=tuple(
            DomainEffect(name, modes[row], float(after[row]), float(after[row] - before[row]), float(remote[row]), away)
            for row, (name, away) in enumerate(zip(load.names, np.rint(away_mib).astype(int).tolist(), strict=True))
        ),
    )


def choose(
    modes: Iterable[str],
    instead: str,
    said: Mapping[str, str],
    effect: Callable[[str, Mapping[str, str]], Effect],
    limits: Limits,
) -> Choice:
    """The best of a host's modes, the first of which is `off`.

    Each is tried as it is and, where domains would lose too much by it, with these having the mode `instead`; whose
    mode the administrator has `said` keeps it. `effect` predicts a mode, given the modes of domains with another one.
    """
    effects, spared = [], []
    for mode in modes:
        effects.append(effect(mode, said))
        losers = _losers(effects[-1], instead, said, limits)
        if losers:
            spared.append(replace(effect(mode, {**said, **losers}), exceptions=tuple(losers.items())))
    allowed = [each for each in (*effects, *spared) if not _why_not(each, limits)]
    # off is allowed unless a domain's own mode is impossible
    best = min(allowed or effects[:1], key=lambda each: (-_worth(each), each.mean_slowdown))
    reasons = tuple(_why_not(each, limits) or _why(each, limits) for each in effects)
    return Choice(best, _why(best, limits), tuple(effects), reasons)


def _losers(effect: Effect, instead: str, said: Mapping[str, str], limits: Limits) -> dict[str, str]:
    if effect.mode in (OFF, instead):
        return {}
    losers = [each.domain for each in effect.domains if each.loss > limits.worst_loss]
    return {name: instead for name in losers if name not in said}


def _worth(effect: Effect) -> int:
    """Relief in steps of what counts."""
    step = max(round(effect.short_mib * LEAST_RELIEF), 1)
    return effect.relief_mib // step


def _why_not(effect: Effect, limits: Limits) -> str:
    if effect.refused or effect.mode == OFF:
        return effect.refused
    slowest = max(effect.domains, key=lambda each: each.loss, default=None)
    if slowest is not None and effect.worst_loss > limits.worst_loss:
        return f"{slowest.domain} would lose {slowest.loss:.3f} in slowdown, {limits.worst_loss:g} at most may be"
    if effect.mean_loss > limits.mean_loss:
        return f"domains would lose {effect.mean_loss:.3f} in slowdown on average, {limits.mean_loss:g} at most may be"
    return ""


def _why(effect: Effect, limits: Limits) -> str:
    if not effect.short_mib:
        return f"no node with CPUs has less than {limits.reserve:.0%} free: more would be of no use"
    but = f"; but for {', '.join(f'{name} ({mode})' for name, mode in effect.exceptions)}" if effect.exceptions else ""
    lost = f"{effect.mean_loss:.3f} in slowdown on average, {effect.worst_loss:.3f} at worst"
    return f"ends {effect.relief_mib} of {effect.short_mib} MiB of shortage for {lost}{but}"
