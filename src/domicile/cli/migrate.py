"""`domicile migrate`: move a domain's memory and vCPUs to other nodes of its host."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.table import Table

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import plain, print_json, show
from domicile.cli.waiting import patient_bar
from domicile.cli.who import who
from domicile.errors import BadInput, Refused
from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.manager.balance import managing
from domicile.manager.intents import MoveIntent, MoveStatus
from domicile.manager.journal import Journal
from domicile.manager.migrate import Moved, migrate, move_vcpus, ordered
from domicile.manager.settling import settle_changes
from domicile.policies.migration.records import RATE_MIB_S, Option, Permits, Way
from domicile.policies.migration.ways import options
from domicile.state.model import Domain, MemoryMapAge, Snapshot
from domicile.topology.bitmaps import ids_of, parse_kernel_list
from domicile.topology.ids import format_ids

__all__ = ["command", "ending", "moved_json"]


@click.command()
@connect_option
@click.argument("domain")
@click.option("--to", "nodes_text", required=True, metavar="NODES", help="Node ids: 2, or 0,1, or 0-3.")
@click.option("--way", type=click.Choice([way.value for way in Way]), help="Only so. [default: the best that can be]")
@click.option(
    "--pause", "pause_s", default=0.0, metavar="SECONDS", type=click.FloatRange(0), help="It may stand still so long."
)
@click.option(
    "--rate", "rate_mib_s", default=RATE_MIB_S, metavar="MIB/S", type=click.FloatRange(1.0), help="Copy no faster."
)
@click.option(
    "--min", "minimum_mib", metavar="MIB", type=click.IntRange(1), help="It may be ballooned down to this meanwhile."
)
@click.option("--dry-run", is_flag=True, help="Tell the ways, their costs, and why not; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    connect: str | None,
    domain: str,
    nodes_text: str,
    way: str | None,
    pause_s: float,
    rate_mib_s: float,
    minimum_mib: int | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Move DOMAIN's memory to other nodes of its host, and its vCPUs with it.

    Live where Xen can (PVH, HVM; needs the memory twice meanwhile), by save and restore where it may stand still
    (--pause), by ballooning what it can free (--min), or by its vCPUs alone where its memory is there already.
    Ctrl-C leaves the host going on with it: `domicile show` and `domicile history` tell how it ends.
    """
    nodes = _nodes(nodes_text)
    permits = Permits(pause_s=pause_s, rate_mib_s=rate_mib_s, minimum_mib=minimum_mib)
    with open_host(default_uri(connect)) as host, Journal.for_host(host.snapshot().host_id) as journal:
        snapshot = host.snapshot(MemoryMapAge.RECENT)
        found = options(snapshot, _domain(snapshot, domain), nodes, permits)
        if dry_run:
            _tell(found, as_json=as_json)
            sys.exit(0 if any(_usable(each, way) for each in found) else 1)
        chosen = next((each for each in found if _usable(each, way)), None)
        if chosen is None:
            raise Refused(why_none(domain, found, way))
        with managing(host, who("migrate")):
            settle_changes(host.snapshot(), host, journal)
            _carry_out(host, journal, _domain(snapshot, domain), chosen, permits, as_json=as_json)


def _nodes(text: str) -> tuple[int, ...]:
    try:
        nodes = ids_of(parse_kernel_list(text))
    except ValueError as error:
        raise BadInput("--to", f"{error}; give node ids such as 2 or 0,1 or 0-3") from error
    if not nodes:
        raise BadInput("--to", "names no node; give node ids such as 2 or 0,1 or 0-3")
    return nodes


def _usable(option: Option, way: str | None) -> bool:
    return not option.refused and way in (None, option.way.value)


def _domain(snapshot: Snapshot, name: str) -> Domain:
    """The domain of this name. Raises `BadInput` naming those that there are."""
    found = snapshot.domain(name)
    if found is None:
        names = ", ".join(domain.name for domain in snapshot.domains if domain.id) or "none"
        raise BadInput("DOMAIN", f"no domain is called {name}; those that run: {names}")
    return found


def why_none(domain: str, found: list[Option], way: str | None) -> str:
    """Why none of the ways can be gone, in a line."""
    reasons: dict[str, list[str]] = {}
    for option in found:
        if way in (None, option.way.value):
            reasons.setdefault(option.refused, []).append(option.way.value)
    told = [reason if len(ways) == len(Way) else f"{', '.join(ways)}: {reason}" for reason, ways in reasons.items()]
    return f"{domain}: cannot be moved: {'; '.join(told)}"


def _carry_out(
    host: Host, journal: Journal, domain: Domain, option: Option, permits: Permits, *, as_json: bool
) -> None:
    reason = f"asked for: {option.way.value} to node {format_ids(option.nodes)}"
    if option.way is Way.VCPUS:
        plan, failed = move_vcpus(host, journal, host.snapshot(), domain, option.nodes, reason)
        if as_json:
            print_json({"plan": plan or None, "way": option.way.value, "nodes": list(option.nodes), "failed": failed})
        else:
            click.echo(
                plain(f"{domain.name}: its vCPUs prefer node {format_ids(option.nodes)} now, where its memory is")
            )
        sys.exit(1 if failed else 0)
    order = ordered(host.snapshot(MemoryMapAge.RECENT), domain, option, permits)
    with patient_bar(f"MiB of {domain.name}", order.memory_mib) as tell:
        done = migrate(host, journal, order, reason, lambda state: tell(state.done_mib) if tell else None)
    if as_json:
        print_json(moved_json(done.move) | {"failed": list(done.failed)})
    else:
        click.echo(plain(ending(done.move)))
        for line in done.failed:
            click.echo(plain(f"domicile: {line}"), err=True)
        if done.move.status in {MoveStatus.MOVED, MoveStatus.PARTLY}:
            click.echo(f"plan {done.move.plan}: `domicile undo {done.move.plan}` puts it back")
    sys.exit(_status(done))


def _status(done: Moved) -> int:
    if done.move.status in {MoveStatus.MOVED, MoveStatus.PARTLY}:
        return 1 if done.failed else 0
    return 3 if done.move.status is MoveStatus.LOST else 1


def ending(move: MoveIntent) -> str:
    """How a move ended, in a line."""
    where = f"node{'s' if len(move.order.nodes) > 1 else ''} {format_ids(move.order.nodes)}"
    why = f" ({move.why})" if move.why else ""
    said = {
        MoveStatus.MOVED: f"moved to {where}{why}",
        MoveStatus.PARTLY: f"moved to {where} in part{why}",
        MoveStatus.FAILED: f"not moved, it runs{why}",
        MoveStatus.LOST: f"LOST{why}",
    }
    return f"{move.order.domain}: {said.get(move.status, move.status.value + why)}"


def moved_json(move: MoveIntent) -> dict[str, Any]:
    """For machines."""
    return {
        "plan": move.plan,
        "domain": move.order.domain,
        "way": move.order.way.value,
        "nodes": list(move.order.nodes),
        "status": move.status.value,
        "why": move.why,
        "pages_by_node": {str(node): pages for node, pages in (move.seen or {}).items()},
    }


def _tell(found: list[Option], *, as_json: bool) -> None:
    if as_json:
        print_json({"ways": [_option_json(each) for each in found]})
        return
    table = Table("way", "memory after", "takes", "pause", "needs free", "time lost", "", box=None, header_style="bold")
    for option in found:
        cost = option.cost
        after = ", ".join(f"{mib} MiB on {node}" for node, mib in sorted(option.memory_mib.items()) if mib)
        figures = ["", "", "", ""]
        if cost is not None:
            twice = ", ".join(f"{mib} MiB on {node}" for node, mib in sorted(cost.twice_mib.items()))
            figures = [f"{cost.time_s:.1f} s", f"{cost.pause_s:.1f} s", twice or "nothing", f"{cost.slowdown_s:.2f} s"]
        table.add_row(option.way.value, after, *figures, "no" if option.refused else "yes")
    show(table)
    for option in found:
        if option.refused:
            click.echo(plain(f"{option.way.value}: no: {option.refused}"))
    click.echo("nothing was changed (--dry-run)")


def _option_json(option: Option) -> dict[str, Any]:
    cost = option.cost
    return {
        "way": option.way.value,
        "nodes": list(option.nodes),
        "memory_mib": {str(node): mib for node, mib in option.memory_mib.items()},
        "refused": option.refused or None,
        "cost": None
        if cost is None
        else {
            "moved_mib": cost.moved_mib,
            "copied_mib": cost.copied_mib,
            "time_s": cost.time_s,
            "pause_s": cost.pause_s,
            "twice_mib": {str(node): mib for node, mib in cost.twice_mib.items()},
            "slowdown_s": cost.slowdown_s,
        },
    }
