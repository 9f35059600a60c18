"""`domicile balance`: one round of affinity that follows memory."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import click
from rich.table import Table

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import plain, print_json, show
from domicile.hosts.open import open_host
from domicile.local.process import is_alive
from domicile.manager.balance import Balancer, Done, managing, settle_acts
from domicile.manager.journal import Journal
from domicile.manager.signals import interruptible
from domicile.policies.scheduling.plan import SchedulingPlan
from domicile.topology.ids import format_ids

__all__ = ["command", "plan_json", "settle", "who"]

WINDOW_S = 5.0


@click.command()
@connect_option
@click.option(
    "--window", "window_s", default=WINDOW_S, show_default=True, metavar="SECONDS", type=click.FloatRange(1.0)
)
@click.option("--dry-run", is_flag=True, help="Decide and tell; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(connect: str | None, window_s: float, *, dry_run: bool, as_json: bool) -> None:
    """Watch the host for a while, then let the vCPUs of each domain go where its memory is.

    Holds that keep them there against the scheduler last as long as a manager runs: see `domicile run`.
    """
    with open_host(default_uri(connect)) as host, Journal.for_host(host.snapshot().host_id) as journal, interruptible():
        balancer = Balancer(host, journal)
        if dry_run:
            done = Done(balancer.decide(balancer.watch_for(window_s)))
        else:
            with managing(host, who("balance")):
                settle(balancer)
                done = balancer.carry_out(balancer.decide(balancer.watch_for(window_s)))
                # long enough for Xen to bring home whoever strayed
                if balancer.held:
                    host.wait(1.0)
                balancer.let_all_go()
    if as_json:
        print_json(plan_json(done))
    else:
        _as_text(done, dry_run=dry_run)
    sys.exit(1 if done.failed else 0)


def who(command_name: str) -> str:
    """How a manager is called for those who find it there."""
    return f"domicile {command_name}, pid {os.getpid()} on {socket.gethostname()}"


def settle(balancer: Balancer) -> None:
    """Find out first what became of what others began."""
    owners = {plan.id: plan.owner for plan in balancer.journal.plans()}
    settle_acts(balancer.look(), balancer.journal, lambda plan: is_alive(owners[plan]))


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


def _as_text(done: Done, *, dry_run: bool) -> None:
    if done.plan:
        show(plan_table(done.plan))
    for domain, reason in done.plan.left:
        click.echo(plain(f"{domain}: left alone: {reason}"))
    for line in done.failed:
        click.echo(plain(f"domicile: {line}"), err=True)
    if not done.plan:
        click.echo("nothing to do: every domain runs where it does best")
    elif dry_run:
        click.echo("nothing was changed (--dry-run)")
    elif done.plan_id is not None:
        click.echo(f"plan {done.plan_id}: `domicile undo {done.plan_id}` puts it back")


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
