"""`domicile stop`: no manager changes this host of its own accord any more, until `domicile stop --off`."""

from __future__ import annotations

import getpass
import socket
from datetime import datetime

import click

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import plain
from domicile.errors import BadInput
from domicile.hosts.actions import Halt
from domicile.hosts.open import open_host

__all__ = ["command"]


@click.command()
@connect_option
@click.option("--off", is_flag=True, help="Let managers start again.")
@click.option("--why", metavar="TEXT", help="For whoever wonders why no manager runs.")
def command(connect: str | None, why: str | None, *, off: bool) -> None:
    """Stop every manager of the host, wherever it runs: at once, and until --off or the host's next boot.

    What they hold is let go on the host's side. Soft affinity stays as it is: `domicile undo` puts it back.
    """
    if off and why:
        raise BadInput("--why", "goes with stopping, not with --off")
    with open_host(default_uri(connect)) as host:
        if off:
            host.perform(Halt(None))
            click.echo("managers may start again; a service that systemd keeps does so within a minute")
            return
        host.perform(Halt(_by_whom(why)))
        manager = host.snapshot().manager
    if manager:
        click.echo(plain(f"told to end: {manager}"))
    click.echo("stopped: nothing is held, and no manager starts until `domicile stop --off`, or until the host boots")


def _by_whom(why: str | None) -> str:
    """Who stopped them, when and why."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    return f"{user} on {socket.gethostname()}, {when}" + (f": {why}" if why else "")
