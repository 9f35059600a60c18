"""`domicile simulate --compare`: a scenario with several values of a key, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from domicile.bench.side_by_side import Figures, Row, SideBySide, compare
from domicile.cli.output import print_json, say_if_compiling, show
from domicile.simulator.scenario import Scenario
from domicile.simulator.traces import read_traces

__all__ = ["side_by_side"]

FORMS = {
    "freed_mib": ("freed\nMiB", "{:.0f}"),
    "room_mib": ("room\nMiB", "{:.0f}"),
    "mean_slowdown": ("slowdown", "{:.3f}"),
    "worst_slowdown": ("worst", "{:.3f}"),
    "mean_loss": ("lost", "{:.3f}"),
    "remote_share": ("remote", "{:.1%}"),
}


def side_by_side(scenario: Scenario, source: str, asked: str, traces: Path | None, as_json: bool) -> None:
    """Run it with each value that `asked` (KEY=V1,V2) gives, and print what came of it."""
    key, equals, values = asked.partition("=")
    if not equals or not key or not values:
        raise click.UsageError("--compare needs a key and its values: sharing.mode=off,same-node,any-node")
    with say_if_compiling():
        found = compare(
            scenario, source, key.strip(), [value.strip() for value in values.split(",")], _recorded(traces), _progress
        )
    if as_json:
        print_json(_as_json(found))
    else:
        show(_view(found, scenario.title or source))


def _recorded(traces: Path | None) -> Any:
    return read_traces(traces) if traces else {}


def _progress(done: int, of: int) -> None:
    """How many runs are done, on stderr where that is a terminal."""
    if Console(stderr=True).is_terminal:
        sys.stderr.write(f"\r{done} of {of} runs" + ("\r\033[K" if done == of else ""))
        sys.stderr.flush()


def _as_json(found: SideBySide) -> dict[str, Any]:
    runs = []
    for row in found.rows:
        run: dict[str, Any] = {"value": row.value, "simulated": msgspec.to_builtins(row.simulated)}
        if row.predicted is not None:
            run["predicted"] = msgspec.to_builtins(row.predicted)
            run["error"] = {name: _error(row, name) for name in FORMS}
        if row.refused:
            run["refused"] = row.refused
        runs.append(run | {"summary": msgspec.to_builtins(row.summary)})
    choice = found.choice
    if choice is None:
        return {"compare": found.key, "runs": runs}
    best = {"mode": choice.best.mode, "exceptions": dict(choice.best.exceptions), "reason": choice.reason}
    modes = [
        msgspec.to_builtins(effect) | {"reason": reason}
        for effect, reason in zip(choice.effects, choice.reasons, strict=True)
    ]
    return {"compare": found.key, "runs": runs, "best": best, "modes": modes}


def _error(row: Row, name: str) -> float | None:
    """Predicted less simulated."""
    predicted, simulated = getattr(row.predicted, name), getattr(row.simulated, name)
    return None if predicted is None or simulated is None else predicted - simulated


def _view(found: SideBySide, title: str) -> RenderableType:
    parts: list[RenderableType] = [Text(title, style="bold")]
    with_policy = any(row.predicted is not None or row.refused for row in found.rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(found.key)
    table.add_column("", no_wrap=True)
    for heading, _ in FORMS.values():
        table.add_column(heading, justify="right")
    for row in found.rows:
        if row.predicted is not None:
            table.add_row(row.value, "predicted", *_cells(row.predicted))
        table.add_row("" if row.predicted else row.value, "simulated", *_cells(row.simulated))
        if row.predicted is not None:
            errors = {name: _error(row, name) for name in FORMS}
            table.add_row("", "error", *(_signed(errors[name], form) for name, (_, form) in FORMS.items()), style="dim")
    parts.append(table)
    if with_policy and found.choice is not None:
        parts.append(_choice(found))
    parts += [Text(f"{row.value}: {row.refused}", style="red") for row in found.rows if row.refused]
    return Group(*parts)


def _cells(figures: Figures) -> list[str]:
    values = {name: getattr(figures, name) for name in FORMS}
    return ["-" if values[name] is None else form.format(values[name]) for name, (_, form) in FORMS.items()]


def _signed(value: float | None, form: str) -> str:
    return "-" if value is None else form.replace(":", ":+").format(value)


def _choice(found: SideBySide) -> RenderableType:
    choice = found.choice
    if choice is None:
        return Text("")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column()
    for effect, reason in zip(choice.effects, choice.reasons, strict=True):
        table.add_row(effect.mode, reason)
    said = f" but for {', '.join(f'{name} ({mode})' for name, mode in choice.best.exceptions)}"
    best = f"best for this host: {choice.best.mode}{said if choice.best.exceptions else ''}"
    return Group(table, Text(best, style="bold"))
