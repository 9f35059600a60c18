"""`domicile lab`: a real Xen on an emulated NUMA machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from domicile.lab import Lab
    from domicile.lab.progress import Report

__all__ = ["command"]

DEFAULT_NAME = "default"


@click.group()
def command() -> None:
    """A real Xen on an emulated NUMA machine."""


@contextlib.contextmanager
def shown_progress() -> Iterator[Report]:
    """A progress bar on stderr for a terminal, a line for each step for anything else."""
    from rich.console import Console  # noqa: PLC0415 (`--help` stays quick)
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("looking for the image", total=1.0)
        last = ""

        def report(doing: str, done: float) -> None:
            nonlocal last
            bar.update(task, description=doing, completed=done)
            if doing != last and not console.is_terminal:
                click.echo(f"{doing} …", err=True)
            last = doing

        yield report


def start(name: str | None, machine_name: str) -> Lab:
    """Start a lab of this name on this machine, with a progress bar."""
    from domicile.lab import Lab, load_machine  # noqa: PLC0415

    machine = load_machine(machine_name)
    with shown_progress() as report:
        return Lab.start(machine, name=name, machine_name=machine_name, report=report)


machine_option = click.option(
    "--machine",
    "machine_name",
    default="4node",
    show_default=True,
    metavar="FILE|PRESET",
    help="The machine to emulate.",
)


@command.command()
@click.argument("name", default=DEFAULT_NAME)
@machine_option
def up(name: str, machine_name: str) -> None:
    """Start a lab: a Xen of its own, which runs until `lab down`."""
    started = time.monotonic()
    with start(name, machine_name) as lab:
        lab.keep()
    click.echo(f"{name}: Xen is up after {time.monotonic() - started:.1f} s, Dom0 at 127.0.0.1 port {lab.ssh_port}")
    click.echo(f"domicile lab ssh {name}")


@command.command()
@click.argument("name", default=DEFAULT_NAME)
@click.option("--all", "everyone", is_flag=True, help="All labs.")
def down(name: str, everyone: bool) -> None:
    """End a lab and forget what it wrote."""
    from domicile.lab import Lab  # noqa: PLC0415

    labs = Lab.all_running() if everyone else [Lab.find(name)]
    for lab in labs:
        lab.stop()
        click.echo(f"{lab.name}: ended")


@command.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", default=DEFAULT_NAME)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, words: tuple[str, ...]) -> None:
    """Log in to Dom0, or run a command there."""
    from domicile.lab import Lab  # noqa: PLC0415

    argv = [*Lab.find(name).ssh_argv(), *words]
    os.execvp(argv[0], argv)  # noqa: S606 - ssh takes this terminal over; there is no shell
