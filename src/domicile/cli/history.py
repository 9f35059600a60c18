"""`domicile history`: the plans carried out, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import click
from rich.table import Table

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import plain, print_json, show
from domicile.hosts.open import open_host
from domicile.manager.intents import Act, DomainIntent, MemoryAct, MoveIntent, Plan
from domicile.manager.journal import Journal
from domicile.topology.ids import format_ids

__all__ = ["command"]


@click.command()
@connect_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="The last so many.")
def command(connect: str | None, limit: int, *, as_json: bool) -> None:
    """The plans carried out on this host, the last one last."""
    with open_host(default_uri(connect)) as host, Journal.for_host(host.snapshot().host_id) as journal:
        plans, acts, intents = journal.plans()[-limit:], journal.acts(), journal.intents()
        moves, memory = journal.moves(), journal.memory_acts()
    rows = [(plan, *_what(plan, acts, intents, moves, memory)) for plan in plans]
    if as_json:
        print_json(
            {
                "plans": [
                    {
                        "id": plan.id,
                        "kind": plan.kind,
                        "policy": plan.policy,
                        "at": plan.made_at,
                        "what": what,
                        "outcome": end,
                    }
                    for plan, what, end in rows
                ]
            }
        )
        return
    if not rows:
        click.echo("nothing was done on this host yet")
        return
    table = Table("plan", "when", "kind", "what", "outcome", box=None, header_style="bold")
    for plan, what, end in rows:
        when = datetime.fromtimestamp(plan.made_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(plan.id), when, plan.kind, plain(what), end)
    show(table)


def _what(
    plan: Plan,
    acts: Sequence[Act],
    intents: Sequence[DomainIntent],
    moves: Sequence[MoveIntent],
    memory: Sequence[MemoryAct],
) -> tuple[str, str]:
    """What a plan was about, and how it ended."""
    mine = [act for act in acts if act.plan == plan.id]
    made = [intent for intent in intents if intent.plan == plan.id]
    moved = [move for move in moves if move.plan == plan.id]
    what = [f"soft affinity of {_names([act.domain for act in mine])}"] if mine else []
    what += [_names([intent.wanted.domain for intent in made])] if made else []
    what += [f"{move.order.domain} to node {format_ids(move.order.nodes)} ({move.order.way})" for move in moved]
    asked = [act for act in memory if act.plan == plan.id]
    what += [f"{act.domain} from {act.before_mib} to {act.wanted_mib} MiB" for act in asked]
    statuses = [act.status.value for act in asked]
    statuses += [act.status.value for act in mine]
    statuses += [intent.status.value for intent in made] + [move.status.value for move in moved]
    ends = Counter(statuses)
    said = [name if len(ends) == 1 else f"{count} {name}" for name, count in ends.items()]
    said += [move.why for move in moved if move.why]
    return ", ".join(what) or "nothing", plain("; ".join(said))


def _names(domains: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(domains))
