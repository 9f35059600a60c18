"""`domicile simulate`: a scenario on the model of a host."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from domicile.simulator.placing import Place
    from domicile.simulator.run import Sink
    from domicile.simulator.scenario import Scenario

__all__ = ["command"]

INTERRUPTED = 130


@click.command()
@click.argument("scenario")
@click.option("--duration", "duration_s", type=click.FloatRange(0.01, 366 * 86400), help="Simulated seconds to count.")
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), help="Another seed than the scenario's.")
@click.option("--scheduler", type=click.Choice(["credit2", "credit", "numa"]), help="Another scheduler.")
@click.option("--policy", help="Another policy to place domains with; none leaves it to Xen.")
@click.option("--machine", help="Another machine: a preset, or any file that `domicile topology` reads.")
@click.option(
    "--series",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a time series: JSON lines, or Parquet for a name that ends in .parquet.",
)
@click.option("--every", "every_s", type=click.FloatRange(min=0.01), help="Simulated seconds from point to point.")
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw the series (.svg, .png or .pdf)."
)
@click.option(
    "--compare", metavar="KEY=V1,V2,...", help="Run it with each value of a key, as sharing.mode=off,same-node."
)
@click.option("--traces", type=click.Path(path_type=Path, dir_okay=False), help="Recorded VMs to follow (Parquet).")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    scenario: str,
    series: Path | None,
    every_s: float | None,
    picture: Path | None,
    traces: Path | None,
    compare: str | None,
    as_json: bool,
    **replaced: Any,
) -> None:
    """Run a scenario on the model of a host, in simulated time.

    SCENARIO is a file (TOML) or the name of one that comes with domicile; a name that is none of them lists them.
    Ctrl-C ends it early and shows what was simulated up to there.

    --compare runs it once with each value of a key: sharing.mode=off,same-node,any-node, or
    tiering.mode=off,other-nodes,far-memory, or domain.NAME.sharing, or any other. Where a policy predicts what it comes
    to, that stands beside.
    """
    # imported here: --help is to be quick
    import msgspec  # noqa: PLC0415

    from domicile.cli.output import print_json, say_if_compiling, show  # noqa: PLC0415
    from domicile.cli.side_by_side import side_by_side  # noqa: PLC0415
    from domicile.cli.simulate_view import summary_view  # noqa: PLC0415
    from domicile.cli.time_lines import TimeLines  # noqa: PLC0415
    from domicile.policies.registry import POLICIES  # noqa: PLC0415
    from domicile.simulator.output import Picture, open_series  # noqa: PLC0415
    from domicile.simulator.run import simulate  # noqa: PLC0415
    from domicile.simulator.scenario import load_scenario  # noqa: PLC0415
    from domicile.simulator.scenario_check import check_scenario  # noqa: PLC0415
    from domicile.simulator.scenario_host import (  # noqa: PLC0415
        check_traces,
        event_cpus,
        guests_of,
        host_options,
        machine_of,
    )
    from domicile.simulator.time_line import TimeLine  # noqa: PLC0415
    from domicile.simulator.traces import read_traces  # noqa: PLC0415
    from domicile.xlcfg.affinity import parse_cpus  # noqa: PLC0415

    asked = load_scenario(scenario)
    given = {key: value for key, value in replaced.items() if value is not None}
    if compare is not None:
        if series or picture or every_s:
            raise click.UsageError("--compare tells of several runs; --series, --picture and --every of one")
        side_by_side(msgspec.structs.replace(asked, **given), scenario, compare, traces, as_json)
        return
    asked = check_scenario(msgspec.structs.replace(asked, **given), scenario, POLICIES)
    topology = machine_of(asked, scenario)
    guests = guests_of(asked, topology, scenario, parse_cpus)
    events = event_cpus(asked, topology, scenario, parse_cpus)
    options = host_options(asked, topology, scenario)
    recorded = read_traces(traces) if traces else {}
    check_traces(asked, scenario, list(recorded))
    with ExitStack() as stack:
        sinks: list[Sink] = [stack.enter_context(open_series(series))] if series else []
        line = TimeLine()
        if not as_json:
            sinks.append(line)
        if picture:
            sinks.append(stack.enter_context(Picture(picture, asked.title)))
        progress = stack.enter_context(_progress(asked.warm_up_s + asked.duration_s))
        stack.enter_context(say_if_compiling())
        interrupted = stack.enter_context(_interruptible())
        summary = simulate(
            asked,
            topology,
            guests,
            _place(asked),
            events,
            recorded,
            sinks,
            every_s,
            progress,
            lambda: bool(interrupted),
            options,
        )
    title = f"{asked.title or scenario}: {summary.seconds:g} s, {asked.scheduler}, placed by {asked.policy}"
    if as_json:
        print_json(
            {"title": asked.title, "scheduler": asked.scheduler, "policy": asked.policy} | msgspec.to_builtins(summary)
        )
    else:
        show(summary_view(summary, title))
        show(TimeLines(line, asked.warm_up_s))
    if not summary.complete:
        whole = asked.warm_up_s + asked.duration_s
        click.echo(f"domicile: interrupted; {summary.seconds:g} s counted of {whole:g} s asked for", err=True)
        sys.exit(INTERRUPTED)


def _place(scenario: Scenario) -> Place | None:
    """The scenario's policy, None for none."""
    from domicile.policies.registry import policy  # noqa: PLC0415
    from domicile.simulator.scenario_check import NO_POLICY  # noqa: PLC0415

    return None if scenario.policy == NO_POLICY else policy(scenario.policy)


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """While it lasts, the first Ctrl-C is noted in the list, and the second one is what it always is."""
    seen: list[int] = []

    def note(number: int, _: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(whole_s: float) -> Iterator[Any]:
    """A bar of simulated time on stderr, where that is a terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    terminal = Console(stderr=True)
    columns = (
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} simulated seconds"),
        BarColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bars:
        task = bars.add_task("", total=whole_s)
        yield lambda time_s: bars.update(task, completed=time_s)
