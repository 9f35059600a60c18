"""`domicile undo`: put back what a plan changed."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import click

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.migrate import ending, moved_json
from domicile.cli.output import plain, print_json
from domicile.cli.waiting import patient_bar
from domicile.cli.who import who
from domicile.errors import BadInput, Refused
from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.manager.balance import managing, undo
from domicile.manager.intents import ActStatus, MoveStatus
from domicile.manager.journal import Journal
from domicile.manager.migrate import Moved, undo_moves
from domicile.manager.rebalance import undo_memory
from domicile.manager.settling import settle_changes
from domicile.policies.migration.records import Option, Permits, Way
from domicile.policies.migration.ways import options
from domicile.state.model import Domain, Snapshot
from domicile.topology.ids import format_ids

__all__ = ["command"]

PUT_BACK = {MoveStatus.MOVED, MoveStatus.PARTLY}
"""How moves ended that there is something to put back of."""


@click.command()
@connect_option
@click.argument("plan", metavar="[ID]", required=False, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(connect: str | None, plan: int | None, *, as_json: bool) -> None:
    """Put back what the last plan of `balance`, `run` or `migrate` (or the one with this ID) changed.

    Memory is moved back in the way that it was moved; soft affinity is given back. What somebody else has changed since
    is left to them; exit status 1 then.
    """
    with (
        open_host(default_uri(connect)) as host,
        Journal.for_host(host.snapshot().host_id) as journal,
        managing(host, who("undo")),
    ):
        settle_changes(host.snapshot(), host, journal)
        # after that: an undo that was killed has left changes that nobody calls done
        chosen = _last(journal) if plan is None else _known(journal, plan)
        moved = any(move.plan == chosen and move.status in PUT_BACK for move in journal.moves())
        moves = _undo_moves(host, journal, chosen) if moved else []
        memory = undo_memory(host, journal, chosen)
        acts = undo(host, journal, chosen) if not moved and not memory else []
    left = ActStatus.LEFT in {*(act.status for act in acts), *(each.status for each in memory)}
    if as_json:
        found = [{"domain": act.domain, "vcpu": act.vcpu, "status": act.status.value} for act in acts]
        print_json(
            {"plan": chosen, "acts": found, "moves": [moved_json(done.move) for done in moves]}
            | {"memory": [{"domain": each.domain, "mib": each.before_mib, "status": each.status} for each in memory]}
        )
    else:
        for done in moves:
            click.echo(plain(ending(done.move)))
        for each in memory:
            back = f"is to have {each.before_mib} MiB again"
            click.echo(plain(f"{each.domain}: {back if each.status is ActStatus.UNDONE else LEFT}"))
        for act in acts:
            what = LEFT if act.status is ActStatus.LEFT else f"soft affinity is CPUs {format_ids(act.before)} again"
            click.echo(plain(f"{act.domain}: vCPU {act.vcpu}: {what}"))
    unmoved = [done for done in moves if done.move.status not in PUT_BACK]
    sys.exit(1 if left or unmoved else 0)


LEFT = "left as it is: somebody else has set it since"


def _known(journal: Journal, plan: int) -> int:
    if plan not in {each.id for each in journal.plans()}:
        raise BadInput(f"plan {plan}", "there is none; see domicile history")
    return plan


def _last(journal: Journal) -> int:
    done = [act.plan for act in journal.memory_acts() if act.status is ActStatus.DONE]
    done += [act.plan for act in journal.acts() if act.status is ActStatus.DONE]
    done += [move.plan for move in journal.moves() if move.status in PUT_BACK]
    # what was done to put something back is not to be put back itself
    undoing = {plan.id for plan in journal.plans() if plan.kind == "undo"}
    done = [plan for plan in done if plan not in undoing]
    if not done:
        raise Refused("nothing to undo: no plan has changed anything that is not put back already")
    return max(done)


def _undo_moves(host: Host, journal: Journal, plan: int) -> list[Moved]:
    # whoever let it stand still on its way there lets it on its way back
    permits = Permits(pause_s=math.inf)

    def find(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...], way: Way) -> Option:
        least = replace(permits, minimum_mib=domain.memory_mib // 4) if way is Way.BALLOON else permits
        return next(option for option in options(snapshot, domain, nodes, least) if option.way is way)

    with patient_bar("MiB moved back", sum(move.order.memory_mib for move in journal.moves(plan))) as tell:
        return undo_moves(host, journal, plan, find, permits, lambda state: tell(state.done_mib) if tell else None)
