"""`domicile undo`: put back what a plan changed."""

from __future__ import annotations

import sys

import click

from domicile.cli.balance import who
from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import plain, print_json
from domicile.errors import Refused
from domicile.hosts.open import open_host
from domicile.manager.balance import managing, undo
from domicile.manager.intents import ActStatus
from domicile.manager.journal import Journal
from domicile.topology.ids import format_ids

__all__ = ["command"]


@click.command()
@connect_option
@click.argument("plan", metavar="[ID]", required=False, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(connect: str | None, plan: int | None, *, as_json: bool) -> None:
    """Put back what the last plan of `balance` or `run` (or the one with this ID) changed.

    What somebody else has changed since is left to them; exit status 1 then.
    """
    with open_host(default_uri(connect)) as host, Journal.for_host(host.snapshot().host_id) as journal:
        chosen = plan if plan is not None else _last(journal)
        with managing(host, who("undo")):
            ended = undo(host, journal, chosen)
    left = [act for act in ended if act.status is ActStatus.LEFT]
    if as_json:
        found = [{"domain": act.domain, "vcpu": act.vcpu, "status": act.status.value} for act in ended]
        print_json({"plan": chosen, "acts": found})
    else:
        for act in ended:
            if act.status is ActStatus.LEFT:
                what = "left as it is: somebody else has set it since"
            else:
                what = f"soft affinity is CPUs {format_ids(act.before)} again"
            click.echo(plain(f"{act.domain}: vCPU {act.vcpu}: {what}"))
    sys.exit(1 if left else 0)


def _last(journal: Journal) -> int:
    done = [act.plan for act in journal.acts() if act.status is ActStatus.DONE]
    if not done:
        raise Refused("nothing to undo: no plan has changed anything that is not put back already")
    return max(done)
