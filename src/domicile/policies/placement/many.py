"""Several guests at once: a few by NumPy, many by the compiled search, which is imported when it is used.

To import Numba and to load what it has compiled takes 2 s of CPU, and to compile it, once, several times that. For a
few guests construction and moves in NumPy are done in less than one.
"""

from __future__ import annotations

from math import isfinite

from domicile.policies.effort import Effort
from domicile.policies.placement.afresh.no_way import NoWay
from domicile.policies.placement.exact import few_enough
from domicile.policies.placement.layout import Layout, Problem
from domicile.policies.placement.search import NoRoom, search

__all__ = ["bounded", "laid_out", "laid_out_compiled"]

FEW = 6
"""Guests that are laid out without compiled code: in 0.7 to 1.0 s of CPU on 2, 4 and 8 nodes; eight take 1.0 to 1.6."""

FEW_ELSE = 16
"""The same where the compiled search has found no way."""


def laid_out(problem: Problem, effort: Effort | None) -> Layout:
    """Seat all guests. `effort` None: as much as suits their number. Raises `NoRoom` where no room for all is found."""
    guests, effort = len(problem.subjects), effort or Effort()
    if guests == 1 or few_enough(problem) or (effort.usual and guests <= FEW):
        return search(problem)
    return laid_out_compiled(problem, effort)


def laid_out_compiled(problem: Problem, effort: Effort) -> Layout:
    """The same by the compiled search, however few they are."""
    from domicile.policies.placement.afresh.build import build  # noqa: PLC0415
    from domicile.policies.placement.afresh.search import layout_of, searched  # noqa: PLC0415

    built = build(problem)
    try:
        return layout_of(problem, built, searched(problem, built, effort))
    except NoWay as no_way:
        if len(problem.subjects) > FEW_ELSE:
            raise NoRoom(no_way.guest) from no_way
        # other constructions, in another order: it takes a second, and may find a way
        return search(problem)


def bounded(
    problem: Problem, layout: Layout | None, effort: Effort
) -> tuple[Layout | None, float | None, float | None]:
    """The best layout known once HiGHS has looked as well, by how much another could be better at most (a share of the
    sum of all domains' slowdowns), and the deviation of HiGHS' piecewise-linear objective from this one's. No layout
    means that there is none, or none was found in time."""
    from domicile.policies.placement.afresh.build import build  # noqa: PLC0415
    from domicile.policies.placement.afresh.proof import prove  # noqa: PLC0415
    from domicile.policies.placement.afresh.search import choices_of, layout_of, worked_out  # noqa: PLC0415

    built = build(problem)
    choices = None if layout is None else choices_of(built, layout)
    # a layout of fewer guests may have sets that are none of the candidates here
    known = None if choices is None or (choices < 0).any() else worked_out(built, choices)
    if known is not None and known.short_mib:
        known = None
    proof = prove(problem, built, known, effort.proof_s, effort.proving_on)
    found = layout if proof.best is None or proof.best is known else layout_of(problem, built, proof.best)
    best = min(filter(None, (layout, found)), key=lambda one: round(one.objective, 9), default=None)
    if best is None:
        return None, None, None
    domains = len(problem.residents.names) + len(problem.subjects)
    gap = max(best.objective - proof.bound, 0.0) / (domains + best.objective)
    return best, gap if isfinite(gap) else None, proof.deviation
