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
from domicile.manager.intents import Act, DomainIntent, Plan
from domicile.manager.journal import Journal

__all__ = ["command"]


@click.command()
@connect_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="The last so many.")
def command(connect: str | None, limit: int, *, as_json: bool) -> None:
    """The plans carried out on this host, the last one last."""
    with open_host(default_uri(connect)) as host, Journal.for_host(host.snapshot().host_id) as journal:
        plans, acts, intents = journal.plans()[-limit:], journal.acts(), journal.intents()
    rows = [(plan, *_what(plan, acts, intents)) for plan in plans]
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


def _what(plan: Plan, acts: Sequence[Act], intents: Sequence[DomainIntent]) -> tuple[str, str]:
    """What a plan was about, and how it ended."""
    mine = [act for act in acts if act.plan == plan.id]
    made = [intent for intent in intents if intent.plan == plan.id]
    domains = ", ".join(dict.fromkeys([act.domain for act in mine] + [intent.wanted.domain for intent in made]))
    ends = Counter([act.status.value for act in mine] + [intent.status.value for intent in made])
    what = f"soft affinity of {domains}" if mine else domains
    return what or "nothing", ", ".join(name if len(ends) == 1 else f"{count} {name}" for name, count in ends.items())
