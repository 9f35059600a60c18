"""`domicile`: the command and its subcommands."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from domicile.cli.output import plain
from domicile.errors import DomicileError

__all__ = ["main", "run"]

COMMANDS = {
    "demo": "see what it does, on an embedded simulated host",
    "topology": "the machine: nodes, CPUs, distances, devices",
    "show": "the host now: load, memory, domains, what is remote",
    "top": "the same, watched: the busiest domains first",
    "place": "plan where guests should live, and why",
    "arrange": "how the whole host would best be laid out again",
    "create": "place guests and start them",
    "vnuma": "the virtual topology a guest should get, as xl.cfg lines",
    "verify": "what is against what was intended",
    "balance": "one round: let vCPUs go where their memory is",
    "run": "rounds until told to stop",
    "migrate": "move a domain's memory and vCPUs to other nodes",
    "stop": "stop every manager of a host, wherever it runs",
    "undo": "put back what a plan changed",
    "history": "the plans carried out",
    "dom0": "where Dom0 should live: boot options and affinity",
    "simulate": "run a scenario on the model of a host",
    "lab": "a real Xen on an emulated NUMA machine",
}
"""Name to one line of help. The command `x` is `domicile.cli.x.command`, imported when it is called."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"domicile.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="domicile", message="domicile %(version)s")
def main(**_: Any) -> None:
    """Place Xen domains on NUMA nodes, and prove that they are there."""


def run() -> None:
    """The entry point: runs the command and turns what domicile raises into one line and an exit status."""
    try:
        main(standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        click.echo("domicile: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except DomicileError as error:
        click.echo(f"domicile: {plain(str(error))}", err=True)
        sys.exit(error.exit_status)
