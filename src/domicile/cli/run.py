"""`domicile run`: rounds until told to stop."""

from __future__ import annotations

import sys
import time

import click

from domicile.cli.balance import settle, who
from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import plain
from domicile.errors import BadInput
from domicile.hosts.open import open_host
from domicile.manager.balance import LOOKS, Balancer, Done, managing
from domicile.manager.journal import Journal
from domicile.manager.signals import Interrupted, interruptible
from domicile.policies.scheduling.follow import Rules
from domicile.topology.ids import format_ids

__all__ = ["command"]

MOST_ROUNDS = 1 << 62


@click.command()
@connect_option
@click.option("--interval", "interval_s", default=5.0, show_default=True, metavar="SECONDS", type=click.FloatRange(0.5))
@click.option("--rounds", type=click.IntRange(1), help="End after so many rounds.")
@click.option("--read-only", is_flag=True, help="Decide and tell; change nothing.")
def command(connect: str | None, interval_s: float, rounds: int | None, *, read_only: bool) -> None:
    """Keep vCPUs near their memory until told to stop: soft affinity that follows it, and holds against the scheduler.

    Ctrl-C or SIGTERM ends it and lets every vCPU go; so does the host's side when this process or the way there dies.
    """
    uri = default_uri(connect)
    with open_host(uri) as host, Journal.for_host(host.snapshot().host_id) as journal, interruptible():
        if host.capabilities().simulated_time and rounds is None:
            raise BadInput(
                "--rounds", "a simulated host's time passes only while it is simulated: say for how many rounds"
            )
        balancer = Balancer(host, journal, Rules())
        try:
            if read_only:
                _rounds(balancer, interval_s, rounds or MOST_ROUNDS, read_only=True)
            else:
                with managing(host, who("run")):
                    settle(balancer)
                    _rounds(balancer, interval_s, rounds or MOST_ROUNDS, read_only=False)
                    balancer.let_all_go()
        except (Interrupted, KeyboardInterrupt):
            balancer.let_all_go()
            _log("told to end; all vCPUs let go")
            sys.exit(0)


def _rounds(balancer: Balancer, interval_s: float, rounds: int, *, read_only: bool) -> None:
    _log(f"watching {balancer.host.uri} every {interval_s:g} s")
    for _ in range(rounds):
        snapshot = balancer.watch_for(interval_s, interval_s / LOOKS)
        plan = balancer.decide(snapshot)
        done = Done(plan) if read_only else balancer.carry_out(plan)
        for line in _lines(done):
            _log(line)


def _lines(done: Done) -> list[str]:
    """What a round did, a line each."""
    plan = done.plan
    return [
        *(f"{each.domain}: vCPU {each.vcpu} let go: {each.reason}" for each in plan.let_go),
        *(f"{each.domain}: soft affinity to CPUs {format_ids(each.cpus)}: {each.reason}" for each in plan.soft),
        *(f"{each.domain}: vCPU {each.vcpu} held on CPUs {format_ids(each.cpus)}: {each.reason}" for each in plan.hold),
        *(f"failed: {line}" for line in done.failed),
    ]


def _log(line: str) -> None:
    """To stdout, where a journal takes it; with the time where a person reads."""
    stamp = time.strftime("%H:%M:%S ") if sys.stdout.isatty() else ""
    click.echo(plain(stamp + line))
    sys.stdout.flush()
