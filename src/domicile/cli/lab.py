"""`domicile lab`: a real Xen on an emulated NUMA machine."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from domicile.errors import BadInput, HostFailed

if TYPE_CHECKING:
    from domicile.lab import Lab
    from domicile.lab.progress import Report

__all__ = ["command"]

DEFAULT_NAME = "default"
SSH_FAILED = 255
MEASURE = "measure"
MAX_SCRIPT_BYTES = 64 << 20


class _LabGroup(click.Group):
    """The lab's commands; `measure` is a module of its own and is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), MEASURE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == MEASURE:
            from domicile.cli.lab_measure import command as measure  # noqa: PLC0415

            return measure
        return super().get_command(ctx, cmd_name)


@click.group(cls=_LabGroup)
def command() -> None:
    """A real Xen on an emulated NUMA machine."""


machine_option = click.option(
    "--machine", "machine_name", metavar="FILE|PRESET", help="The machine to emulate.  [default: 4node]"
)


@command.command()
@click.argument("name", default=DEFAULT_NAME)
@machine_option
@click.option("--boot", is_flag=True, help="Boot it, though there is a saved state to start from.")
def up(name: str, machine_name: str | None, boot: bool) -> None:
    """Start a lab: a Xen of its own, which runs until `lab down`."""
    _clear_ended()
    started = time.monotonic()
    lab = _start(name, machine_name, boot=boot)
    lab.keep()
    taken = time.monotonic() - started
    click.echo(f"{name}: Xen is up after {taken:.1f} s, Dom0 is at 127.0.0.1 port {lab.ssh_port}")
    click.echo(f"log in with `domicile lab ssh {name}`, end it with `domicile lab down {name}`")


@command.command()
@click.argument("name", required=False)
@click.option("--all", "everyone", is_flag=True, help="All labs.")
def down(name: str | None, everyone: bool) -> None:
    """End a lab and forget what it wrote."""
    from domicile.lab import Lab  # noqa: PLC0415 (`--help` stays quick)

    if everyone and name:
        raise BadInput("lab down", "give a name or --all, not both")
    _clear_ended()
    labs = Lab.all_running() if everyone else [Lab.find(name or DEFAULT_NAME, still_starting=True)]
    for lab in labs:
        lab.stop()
        click.echo(f"{lab.name}: ended")


@command.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(as_json: bool) -> None:
    """The labs that run, and what the cache holds."""
    from domicile.lab import Lab  # noqa: PLC0415
    from domicile.lab.cache import LIMIT_MIB, cache_folder, size_mib  # noqa: PLC0415

    _clear_ended()
    labs = Lab.all_running()
    cache = {"folder": str(cache_folder()), "size_mib": round(size_mib(cache_folder())), "limit_mib": LIMIT_MIB}
    if as_json:
        rows = [
            {
                "name": lab.name,
                "machine": lab.record.machine_name,
                "nodes": len(lab.machine.nodes),
                "cpus": lab.machine.cpus,
                "memory_mib": lab.machine.memory_mib,
                "ssh_port": lab.ssh_port or None,
                "started_at": lab.record.started_at,
                "folder": str(lab.folder),
                "console": str(lab.folder / "console.log"),
            }
            for lab in labs
        ]
        click.echo(msgspec.json.format(msgspec.json.encode({"labs": rows, "cache": cache})).decode())
    else:
        _show_table(labs)
        click.echo(f"cache: {cache['size_mib']} of {LIMIT_MIB} MiB in {cache['folder']}")


class _AfterDashes(click.Command):
    """A command that keeps apart what stands behind `--`, so that `lab ssh -- xl info` needs no name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = []
        if "--" in args:
            place = args.index("--")
            ctx.obj = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


@command.command(cls=_AfterDashes)
@click.argument("name", default=DEFAULT_NAME)
@click.pass_context
def ssh(ctx: click.Context, name: str) -> None:
    """Log in to Dom0, or run a command there: `lab ssh [NAME] -- COMMAND...`.

    One word is a line for Dom0's shell; of several, each reaches the program as it is.
    """
    from domicile.lab import Lab  # noqa: PLC0415

    words: list[str] = ctx.obj
    given = words if len(words) <= 1 else [shlex.join(words)]
    argv = [*Lab.find(name).ssh_argv(), *given]
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 (ssh takes our place: terminal, signals and exit status are its own)


@command.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", help="The lab to run it in.")
@machine_option
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(script: Path, name: str | None, machine_name: str | None, arguments: tuple[str, ...]) -> None:
    """Run a script in Dom0, and leave with its exit status.

    It runs in the lab that is running; if there is none (of that machine), in a fresh one that ends with it.
    """
    content = _read_script(script)
    _clear_ended()
    lab = _running_for(name, machine_name)
    if lab is not None:
        sys.exit(_run_in(lab, content, arguments))
    with _start(name, machine_name) as lab:
        exit_status = _run_in(lab, content, arguments)
    sys.exit(exit_status)


def _clear_ended() -> None:
    from domicile.lab import Lab  # noqa: PLC0415

    for line in Lab.clear_ended():
        click.echo(f"domicile: {line}", err=True)


@contextlib.contextmanager
def _shown_progress() -> Iterator[Report]:
    """A progress bar on stderr for a terminal, a line for each step for anything else."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn())
    last = ""
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def report(doing: str, done: float) -> None:
            nonlocal last
            bar.update(task, description=doing, completed=done)
            if doing != last and not console.is_terminal:
                click.echo(f"{doing} ...", err=True)
            last = doing

        yield report


def _start(name: str | None, machine_name: str | None, *, boot: bool = False) -> Lab:
    from domicile.lab import Lab, load_machine  # noqa: PLC0415
    from domicile.lab.machine import DEFAULT_PRESET  # noqa: PLC0415

    named = machine_name or DEFAULT_PRESET
    machine = load_machine(named)
    with _shown_progress() as report:
        return Lab.start(machine, name=name, machine_name=named, boot=boot, report=report)


def _running_for(name: str | None, machine_name: str | None) -> Lab | None:
    """The running lab that a script is meant for, None if one has to be started."""
    from domicile.lab import Lab, load_machine  # noqa: PLC0415

    labs = [lab for lab in Lab.all_running() if lab.ssh_port]
    if name is not None:
        labs = [lab for lab in labs if lab.name == name]
    if machine_name is not None:
        wanted = load_machine(machine_name).digest
        others = [lab.name for lab in labs if lab.machine.digest != wanted]
        if name is not None and others:
            raise BadInput(name, f"runs another machine than {machine_name}; end it or leave --machine out")
        labs = [lab for lab in labs if lab.machine.digest == wanted]
    if len(labs) > 1:
        raise BadInput("lab run", f"several labs are running ({', '.join(lab.name for lab in labs)}); give --name")
    return labs[0] if labs else None


def _read_script(script: Path) -> bytes:
    try:
        with script.open("rb") as file:
            content = file.read(MAX_SCRIPT_BYTES + 1)
    except OSError as error:
        raise BadInput(str(script), f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadInput(repr(str(script)), f"no file can be called that ({error})") from error
    if len(content) > MAX_SCRIPT_BYTES:
        raise BadInput(str(script), f"more than {MAX_SCRIPT_BYTES >> 20} MiB is no script")
    return content


def _run_in(lab: Lab, content: bytes, arguments: tuple[str, ...]) -> int:
    """Copy the script to Dom0, run it with our stdin, stdout and stderr, remove it; returns its exit status."""
    copied = lab.run(
        'file=$(mktemp /tmp/script.XXXXXX) && cat >"$file" && chmod 700 "$file" && echo "$file"', input=content
    )
    if copied.returncode:
        raise HostFailed(f"lab {lab.name}: the script cannot be copied to Dom0: {copied.stderr.strip()}")
    file = copied.stdout.strip()
    line = f"{shlex.join([file, *arguments])}; status=$?; rm -f {shlex.quote(file)}; exit $status"
    exit_status = subprocess.run([*lab.ssh_argv(), line], check=False).returncode
    if exit_status == SSH_FAILED:
        lab.run(["true"])  # raises if it is Dom0 that has gone, and not the script that left so
    return exit_status


def _show_table(labs: list[Lab]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    if not labs:
        click.echo("no lab is running; `domicile lab up` starts one")
        return
    table = Table("name", "machine", "nodes", "CPUs", "memory", "SSH port", "up", box=None, header_style="bold")
    for lab in labs:
        minutes, seconds = divmod(round(time.time() - lab.record.started_at), 60)
        machine = lab.machine
        table.add_row(
            lab.name,
            lab.record.machine_name,
            str(len(machine.nodes)),
            str(machine.cpus),
            f"{machine.memory_mib} MiB",
            str(lab.ssh_port) if lab.ssh_port else "starting",
            f"{minutes} min {seconds:02} s",
        )
    Console().print(table)
