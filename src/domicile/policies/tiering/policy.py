"""Tiering as a policy: cold pages stay, go to other nodes, or to far memory, and what each is predicted to come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from domicile.policies.memory_load import MemoryLoad
from domicile.policies.memory_modes import USUAL_LIMITS, Choice, Effect, Limits, choose, effect_of
from domicile.policies.tiering.pool import UNTIL_FULL, Pool, fill
from domicile.state.model import Snapshot
from domicile.state.page_use import PageUse
from domicile.state.request import Intent, TieringMode

__all__ = ["choose_tiering"]

NO_INTENT = Intent()

MOST_LOST = 0.9
"""Nobody spends more of its time than this on copying (as in `simulator.progress.burden`)."""


def choose_tiering(
    snapshot: Snapshot,
    uses: Sequence[PageUse],
    intent: Intent = NO_INTENT,
    *,
    load: Mapping[str, float] | None = None,
    ran: Mapping[str, Mapping[int, float]] | None = None,
    pool: Pool = UNTIL_FULL,
    limits: Limits = USUAL_LIMITS,
) -> Choice:
    """The best mode for the host, domains with a mode of their own keeping it; domains that would lose too much are
    tried without. `load` and `ran`: as in `MemoryLoad.of`. The snapshot is of a host without a pool."""
    memory = MemoryLoad.of(snapshot, intent, load, ran)
    said = {name: str(mode) for name, mode in intent.tiering_by_domain}
    far = memory.far_nodes(intent.far_nodes).tolist()
    effect = partial(_effect, memory, uses, far, pool=pool, limits=limits)
    return choose(TieringMode, TieringMode.OFF, said, effect, limits)


def _effect(
    memory: MemoryLoad,
    uses: Sequence[PageUse],
    far: Sequence[bool],
    mode: str,
    said: Mapping[str, str],
    *,
    pool: Pool,
    limits: Limits,
) -> Effect:
    known = {use.domain: use for use in uses}
    rows = [known.get(name, PageUse(name)) for name in memory.names]
    modes = [TieringMode(said.get(use.domain, mode)) for use in rows]
    if TieringMode.FAR_MEMORY in modes and not any(far):
        return Effect.impossible(mode, "every node with memory has CPUs, and none is named as far memory")
    found = fill(memory, rows, modes, far, pool)
    # what is put was not accessed: accesses stay where they are, and time goes into copying
    before = memory.slowdowns(memory.pages)
    busy = np.where(memory.demand > 0, memory.demand, np.inf)
    after = before / (1.0 - np.minimum(found.lost / busy, MOST_LOST))
    away = np.where(memory.own, 0.0, found.kept).sum(axis=1)
    return effect_of(
        mode,
        list(map(str, modes)),
        memory,
        found.freed,
        (before, np.asarray(after, dtype=np.float64)),
        memory.pages,
        away,
        limits,
        busy_vcpus=float(found.lost.sum()),
    )
