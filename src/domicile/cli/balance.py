"""`domicile balance`: one round of affinity that follows memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.intent import intent_option
from domicile.cli.migrate import ending, moved_json
from domicile.cli.output import plain, print_json, show
from domicile.cli.waiting import patient_bar
from domicile.cli.who import who
from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.intent_file import load_intent
from domicile.manager.balance import Balancer, Done, managing
from domicile.manager.journal import Journal
from domicile.manager.rebalance import Outcome, Rebalancer, remembered, rules_of
from domicile.manager.settling import settle_changes
from domicile.manager.signals import interruptible
from domicile.policies.rebalancing.records import Move, RebalancePlan, Rules
from domicile.policies.scheduling.plan import SchedulingPlan
from domicile.state.model import Snapshot
from domicile.topology.ids import format_ids

__all__ = ["command", "plan_json"]

WINDOW_S = 5.0


@click.command()
@connect_option
@click.option(
    "--window", "window_s", default=WINDOW_S, show_default=True, metavar="SECONDS", type=click.FloatRange(1.0)
)
@intent_option
@click.option("--dry-run", is_flag=True, help="Decide and tell; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(connect: str | None, window_s: float, intent_path: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Watch the host for a while, then let the vCPUs of each domain go where its memory is; where that gains nothing
    any more, move memory to where the load is.

    Holds that keep vCPUs there against the scheduler last as long as a manager runs: see `domicile run`.
    """
    intent = load_intent(intent_path)
    dry_run = dry_run or intent.mandate.read_only
    with open_host(default_uri(connect)) as host, Journal.for_host(host.snapshot().host_id) as journal, interruptible():
        balancer = Balancer(host, journal, intent)
        rebalancer = Rebalancer(host, journal)
        outcome = Outcome()
        if dry_run:
            snapshot = balancer.watch_for(window_s)
            done = Done(balancer.decide(snapshot))
            moves = _moves(balancer, rebalancer, snapshot, done)
        else:
            with managing(host, who("balance")):
                settle_changes(balancer.look(), host, journal)
                snapshot = balancer.watch_for(window_s)
                rebalancer.history = remembered(snapshot, journal)
                done = balancer.carry_out(balancer.decide(snapshot))
                # long enough for Xen to bring home whoever strayed
                if balancer.held:
                    host.wait(1.0)
                balancer.let_all_go()
                moves = _moves(balancer, rebalancer, snapshot, done)
                outcome = _carry_out(host, rebalancer, moves, _rules(balancer, snapshot))
    if as_json:
        print_json(plan_json(done) | _moves_json(moves, outcome))
    else:
        _as_text(done, moves, outcome, dry_run=dry_run)
    sys.exit(1 if done.failed or outcome.failed else 0)


def _rules(balancer: Balancer, snapshot: Snapshot) -> Rules:
    return rules_of(balancer.mandate, snapshot, seen_s=balancer.watch.seen_s)


def _moves(balancer: Balancer, rebalancer: Rebalancer, snapshot: Snapshot, done: Done) -> RebalancePlan:
    """What to move: nothing while vCPUs alone can get nearer, which costs nothing."""
    if done.plan.soft:
        return RebalancePlan()
    return rebalancer.decide_now(snapshot, balancer.watch, _rules(balancer, snapshot))


def _carry_out(host: Host, rebalancer: Rebalancer, plan: RebalancePlan, rules: Rules) -> Outcome:
    """Begin the moves, and wait for their end."""
    found = rebalancer.carry_out(plan, rules)
    total = sum(move.option.cost.moved_mib for move in found.begun if move.option.cost)
    with patient_bar("MiB moved", max(total, 1.0)) as tell:
        while rebalancer.history.under_way:
            host.wait(1.0)
            snapshot = host.snapshot()
            if tell is not None:
                tell(sum(move.done_mib for move in snapshot.moves))
            more = rebalancer.attend(snapshot, rules)
            found = Outcome(found.ended + more.ended, found.begun + more.begun, found.failed + more.failed)
    return found


def plan_json(done: Done) -> dict[str, Any]:
    """For machines."""
    plan = done.plan
    return {
        "plan": done.plan_id,
        "soft_affinity": [
            {
                "domain": change.domain,
                "nodes": list(change.nodes),
                "cpus": sorted(change.cpus),
                "gain": round(change.gain, 4),
                "reason": change.reason,
            }
            for change in plan.soft
        ],
        "hold": [
            {
                "domain": each.domain,
                "vcpu": each.vcpu,
                "cpus": sorted(each.cpus),
                "away": round(each.away, 4),
                "reason": each.reason,
            }
            for each in plan.hold
        ],
        "let_go": [{"domain": each.domain, "vcpu": each.vcpu, "reason": each.reason} for each in plan.let_go],
        "left_alone": [{"domain": domain, "reason": reason} for domain, reason in plan.left],
        "failed": list(done.failed),
    }


def _as_text(done: Done, moves: RebalancePlan, outcome: Outcome, *, dry_run: bool) -> None:
    if done.plan:
        show(plan_table(done.plan))
    planned = [*moves.moves, *(each for swap in moves.swaps for each in (swap.first, swap.second))]
    lines = [ending(ended.move) for ended in outcome.ended]
    if dry_run:
        lines += [f"{each.domain}: would be moved to node {_where(each)}: {each.reason}" for each in planned]
    left = dict(done.plan.left)
    lines += [
        f"{each.domain}: not moved to node {format_ids(each.nodes)}: {each.reason}"
        for each in moves.considered
        if each.domain not in left
    ]
    lines += [f"{domain}: left alone: {reason}" for domain, reason in left.items()]
    for line in lines:
        click.echo(plain(line))
    for line in (*done.failed, *outcome.failed):
        click.echo(plain(f"domicile: {line}"), err=True)
    if not done.plan and not planned:
        click.echo("nothing to do: every domain runs where it does best")
    elif dry_run:
        click.echo("nothing was changed (--dry-run, or read_only in domicile.toml)")
    elif done.plan_id is not None:
        click.echo(f"plan {done.plan_id}: `domicile undo {done.plan_id}` puts it back")


def _where(move: Move) -> str:
    return f"{format_ids(move.option.nodes)} ({move.option.way})"


def _moves_json(plan: RebalancePlan, outcome: Outcome) -> dict[str, Any]:
    return {
        "moves": [
            {
                "domain": move.domain,
                "nodes": list(move.option.nodes),
                "way": move.option.way.value,
                "gain": round(move.gain, 4),
                "pays_after_s": round(move.pays_after_s, 1),
                "reason": move.reason,
            }
            for move in (*plan.moves, *(each for swap in plan.swaps for each in (swap.first, swap.second)))
        ],
        "moved": [moved_json(ended.move) for ended in outcome.ended],
        "not_moved": [
            {"domain": each.domain, "nodes": list(each.nodes), "gain": round(each.gain, 4), "reason": each.reason}
            for each in plan.considered
        ],
    }


def plan_table(plan: SchedulingPlan) -> Table:
    """For people: what changes, and why."""
    table = Table("domain", "what", "why", box=None, header_style="bold")
    for going in plan.let_go:
        table.add_row(going.domain, f"vCPU {going.vcpu} let go", going.reason)
    for change in plan.soft:
        nodes = f"node{'s' if len(change.nodes) > 1 else ''} {format_ids(change.nodes)}"
        table.add_row(change.domain, f"soft affinity to {nodes}", change.reason)
    for each in plan.hold:
        table.add_row(each.domain, f"vCPU {each.vcpu} held on CPUs {format_ids(each.cpus)}", each.reason)
    return table
