"""Several guests at once, by the compiled search; it is imported when it is used, since Numba takes a second."""

from __future__ import annotations

from domicile.policies.effort import Effort
from domicile.policies.placement.layout import Layout, Problem
from domicile.policies.placement.search import search

__all__ = ["bounded", "search_many"]


def search_many(problem: Problem, effort: Effort) -> Layout:
    """Seat all guests. Raises `NoRoom` where neither the compiled search nor construction finds room for all."""
    from domicile.policies.placement.afresh.build import build  # noqa: PLC0415
    from domicile.policies.placement.afresh.search import NoWay, layout_of, searched  # noqa: PLC0415

    built = build(problem)
    try:
        return layout_of(problem, built, searched(problem, built, effort))
    except NoWay:
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
    known = None if layout is None else worked_out(built, choices_of(built, layout))
    if known is not None and known.short_mib:
        known = None
    proof = prove(problem, built, known, effort.proof_s)
    if proof.best is None:
        return layout, None, None
    domains = len(problem.residents.names) + len(problem.subjects)
    best = layout if proof.best is known else layout_of(problem, built, proof.best)
    return best, proof.gap(domains), proof.deviation
