"""Page sharing as a policy: off, within a node, or across nodes, each with what it is predicted to come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from domicile.performance.curves import Floats
from domicile.policies.memory_load import MemoryLoad
from domicile.policies.memory_modes import USUAL_LIMITS, Choice, Effect, Limits, choose, effect_of
from domicile.policies.sharing.equal import ONE_SCAN, Scanner, shared
from domicile.state.model import Snapshot
from domicile.state.page_use import PageUse
from domicile.state.request import Intent, SharingMode

__all__ = ["choose_sharing"]

NO_INTENT = Intent()


def choose_sharing(
    snapshot: Snapshot,
    uses: Sequence[PageUse],
    intent: Intent = NO_INTENT,
    *,
    load: Mapping[str, float] | None = None,
    ran: Mapping[str, Mapping[int, float]] | None = None,
    scanner: Scanner = ONE_SCAN,
    limits: Limits = USUAL_LIMITS,
) -> Choice:
    """The best mode for the host, domains with a mode of their own keeping it. Where a domain would lose too much by
    sharing anywhere, sharing anywhere is tried with it sharing on its own nodes.

    `load` and `ran`: as in `MemoryLoad.of`. The snapshot is of a host on which nothing is shared yet.
    """
    memory = MemoryLoad.of(snapshot, intent, load, ran)
    said = {name: str(mode) for name, mode in intent.sharing_by_domain}
    effect = partial(_effect, memory, uses, scanner=scanner, limits=limits)
    return choose(SharingMode, SharingMode.SAME_NODE, said, effect, limits)


def _effect(
    memory: MemoryLoad,
    uses: Sequence[PageUse],
    mode: str,
    said: Mapping[str, str],
    *,
    scanner: Scanner,
    limits: Limits,
) -> Effect:
    known = {use.domain: use for use in uses}
    rows = [known.get(name, PageUse(name)) for name in memory.names]
    modes = [SharingMode(said.get(use.domain, mode)) for use in rows]
    equal_mib = memory.memory_mib * np.array([use.equal_pages for use in rows])
    found = shared(memory.pages, equal_mib, [use.content for use in rows], modes, scanner)
    accesses = memory.pages + found.reads / np.maximum(memory.memory_mib, 1.0)[:, None]
    slowdown = memory.slowdowns(np.stack([memory.pages, accesses]))
    away: Floats = np.where(memory.own, 0.0, found.reads).sum(axis=1)
    words = list(map(str, modes))
    return effect_of(mode, words, memory, found.freed, (slowdown[0], slowdown[1]), accesses, away, limits)
