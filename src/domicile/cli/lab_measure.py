"""`domicile lab measure`: how many memory accesses of a scenario's guests go to a remote node, on a real Xen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


@click.command()
@click.argument("scenario")
@click.option("--machine", help="another machine than the scenario's: a preset of the lab or a machine file")
@click.option("--window", "window_s", type=click.FloatRange(1, 86400), help="seconds that are counted")
@click.option("--warm-up", "warm_up_s", type=click.FloatRange(0, 86400), help="seconds from the last guest being ready")
@click.option("--every", type=click.IntRange(1, 1 << 20), help="look at one access of so many; 1 counts each, slowly")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(
    scenario: str,
    machine: str | None,
    window_s: float | None,
    warm_up_s: float | None,
    every: int | None,
    as_json: bool,
) -> None:
    """Count local and remote accesses on a real Xen.

    SCENARIO is a file (TOML) or the name of one that comes with domicile; a name that is none of them lists them. A
    fresh lab is started for it under a counting plug-in and ended afterwards.
    """
    # imported here: --help is to be quick
    import msgspec  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from domicile.errors import BadInput  # noqa: PLC0415
    from domicile.lab import Lab, load_machine  # noqa: PLC0415
    from domicile.lab.cache import cache_folder  # noqa: PLC0415
    from domicile.lab.machine import preset_names  # noqa: PLC0415
    from domicile.lab.measure.counters import EVERY  # noqa: PLC0415
    from domicile.lab.measure.run import MeasuredMachine, counting, measure, require_fitting  # noqa: PLC0415
    from domicile.lab.measure.scenario import load_scenario  # noqa: PLC0415
    from domicile.lab.measure.show import tables  # noqa: PLC0415

    asked = load_scenario(scenario)
    replaced = {"machine": machine, "window_s": window_s, "warm_up_s": warm_up_s}
    asked = msgspec.structs.replace(asked, **{key: value for key, value in replaced.items() if value is not None})

    emulated = load_machine(asked.machine)
    if emulated.by_proximity_domain != tuple(range(len(emulated.nodes))):
        raise BadInput(asked.machine, "cannot be measured: its memory lies in another order than its nodes")
    measured = MeasuredMachine(
        name=asked.machine if asked.machine in preset_names() else Path(asked.machine).name,
        node_cpus=tuple(node.cpus for node in emulated.nodes),
        node_mib=tuple(node.memory_mib for node in emulated.nodes),
    )
    require_fitting(asked, measured)
    with (
        Progress() as progress,
        counting(measured, 2 + len(asked.guests), cache_folder() / "plugins", every=every or EVERY) as (
            counters,
            plugin,
        ),
        Lab.start(emulated, machine_name=asked.machine, plugins=[plugin], report=progress) as running,
    ):
        found = measure(running, measured, counters, asked, progress)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        Console().print(tables(found))


class Progress:
    """A bar on stderr for each thing that is done; nothing where nobody looks."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bars  # noqa: PLC0415

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bars = Bars(*columns, console=console, disable=not console.is_terminal)
        self._task: Any = None
        self._doing = ""

    def __call__(self, doing: str, done: float) -> None:
        """What is being done now, and how much of it is done."""
        if doing != self._doing:
            if self._task is not None:
                self._bars.update(self._task, completed=1.0)
                self._bars.stop_task(self._task)
            self._task = self._bars.add_task(doing, total=1.0)
            self._doing = doing
        self._bars.update(self._task, completed=done)

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
