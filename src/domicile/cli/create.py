"""`domicile create`: place and start."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from domicile.cli.configs import Asked, placing_command, read_request, write_placement
from domicile.cli.output import plain, print_json, show
from domicile.cli.plan_json import placement_json
from domicile.cli.plan_view import plan_view
from domicile.hosts.open import open_host
from domicile.manager.create import Outcome, OutcomeStatus, Progress, Step, create_domains, exit_status
from domicile.policies.plan import PlacementPlan

__all__ = ["command"]


@placing_command
def command(asked: Asked, uri: str) -> None:
    """Place the guests of these xl.cfg files and start them, safe against other creations under way."""
    texts, intent = asked.texts(), asked.intent()
    with open_host(uri) as host, _watched() as progress:
        outcomes = create_domains(
            host,
            texts,
            policy=asked.policy(host),
            read=read_request,
            write=write_placement,
            intent=intent,
            progress=progress,
        )
    if asked.as_json:
        print_json(_as_json(outcomes, asked.policy_name, explain=asked.explain))
    else:
        _as_text(outcomes, asked.policy_name, explain=asked.explain)
    for outcome in outcomes:
        if outcome.error:
            click.echo(f"domicile: {plain(str(outcome.error))}", err=True)
    sys.exit(exit_status(outcomes))


@contextmanager
def _watched() -> Iterator[Progress]:
    """A line on a terminal that says what is being done; nothing where there is none."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Status("looking at the host", console=console) as status:

        def progress(domain: str, step: Step, detail: str) -> None:
            status.update(plain(f"{domain}: {step.value}{': ' if detail else ''}{detail}"))

        yield progress


def _as_text(outcomes: Sequence[Outcome], policy: str, *, explain: bool) -> None:
    """The placements of those that were started, and how each ended."""
    started = [outcome.placement for outcome in outcomes if outcome.status is OutcomeStatus.STARTED]
    placements = tuple(placement for placement in started if placement is not None)
    if placements:
        show(plan_view(PlacementPlan(placements, policy), explain=explain))
    for outcome in outcomes:
        for note in outcome.notes:
            click.echo(plain(f"{outcome.domain}: {note}"))
        if outcome.status is OutcomeStatus.STARTED:
            found = outcome.pages_by_node
            where = ", ".join(f"{pages} pages on node {node}" for node, pages in sorted((found or {}).items()) if pages)
            click.echo(plain(f"{outcome.domain}: started{f'; found {where}' if where else ''}"))


def _as_json(outcomes: Sequence[Outcome], policy: str, *, explain: bool) -> dict[str, Any]:
    return {
        "placements": [
            placement_json(outcome.placement, explain=explain) for outcome in outcomes if outcome.placement is not None
        ],
        "policy": policy,
        "outcomes": [
            {
                "domain": outcome.domain,
                "status": outcome.status.value,
                "memory_pages": None
                if outcome.pages_by_node is None
                else {str(node): pages for node, pages in sorted(outcome.pages_by_node.items())},
                "error": str(outcome.error) if outcome.error else None,
                "notes": list(outcome.notes),
            }
            for outcome in outcomes
        ],
    }
