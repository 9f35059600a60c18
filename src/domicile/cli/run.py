"""`domicile run`: rounds until told to stop."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.intent import intent_option
from domicile.cli.logs import LogFormat, logging_to
from domicile.errors import BadInput
from domicile.intent_file import load_intent
from domicile.local.supervisor import Supervisor
from domicile.state.request import Intent

__all__ = ["command"]


@click.command()
@connect_option
@intent_option
@click.option(
    "--interval",
    "interval_s",
    metavar="SECONDS",
    type=click.FloatRange(0.5),
    help="Else as domicile.toml says, else 5.",
)
@click.option("--rounds", type=click.IntRange(1), help="End after so many rounds.")
@click.option("--read-only", is_flag=True, help="Decide and tell; change nothing.")
@click.option(
    "--log-format",
    type=click.Choice([each.value for each in LogFormat]),
    default=LogFormat.TEXT.value,
    show_default=True,
)
@click.option("--notify", is_flag=True, help="Tell systemd: for a unit of Type=notify.")
@click.option("--unit", "print_unit", is_flag=True, help="Print a systemd unit for this host, and do nothing.")
def command(
    connect: str | None,
    intent_path: Path | None,
    interval_s: float | None,
    rounds: int | None,
    log_format: str,
    *,
    read_only: bool,
    notify: bool,
    print_unit: bool,
) -> None:
    """Keep vCPUs near their memory until told to stop: soft affinity that follows it, and holds against the scheduler.

    Ctrl-C or SIGTERM ends it and lets every vCPU go; so does the host's side when this process or the way there dies,
    and `domicile stop`. SIGHUP has it read domicile.toml again.
    """
    uri = default_uri(connect)
    if print_unit:
        from domicile.cli.unit import unit  # noqa: PLC0415

        click.echo(unit(uri, intent_path), nl=False)
        return

    def configuration() -> Intent:
        intent = load_intent(intent_path)
        said = intent.mandate
        mandate = replace(said, interval_s=interval_s or said.interval_s, read_only=read_only or said.read_only)
        return replace(intent, mandate=mandate)

    intent = configuration()
    supervisor = Supervisor.of(os.environ) if notify else Supervisor()
    try:
        with logging_to(sys.stdout, LogFormat(log_format)):
            _serve(uri, intent, configuration, supervisor, rounds)
    except BrokenPipeError:
        # whoever read the log is gone; keep Python from complaining again when it closes standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _serve(
    uri: str, intent: Intent, configuration: Callable[[], Intent], supervisor: Supervisor, rounds: int | None
) -> None:
    """Rounds on this host, until they are done or a signal ends them."""
    from domicile.cli.who import who  # noqa: PLC0415 - what decides takes longer to import than a refusal may
    from domicile.hosts.open import open_host  # noqa: PLC0415
    from domicile.manager.balance import Balancer  # noqa: PLC0415
    from domicile.manager.daemon import Daemon, calm_collector  # noqa: PLC0415
    from domicile.manager.journal import Journal  # noqa: PLC0415
    from domicile.manager.signals import interruptible, told  # noqa: PLC0415

    with interruptible(), open_host(uri) as host:
        if host.capabilities().simulated_time and rounds is None:
            raise BadInput(
                "--rounds", "a simulated host's time passes only while it is simulated: say for how many rounds"
            )
        with Journal.for_host(host.snapshot().host_id) as journal, told() as signals:
            calm_collector()
            Daemon(Balancer(host, journal, intent), who("run"), configuration, signals, supervisor).run(rounds)
