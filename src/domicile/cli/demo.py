"""`domicile demo`: the main job, start to finish, on an embedded simulated host."""

from __future__ import annotations

import io
from pathlib import Path

import click
from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.status import Status
from rich.table import Table
from rich.text import Text

from domicile.cli.configs import read_request, write_placement
from domicile.cli.draw import TopologyView
from domicile.cli.host_view import host_view
from domicile.cli.output import console
from domicile.demo.story import Chapter, Story, tell
from domicile.errors import BadInput
from domicile.topology.ids import format_ids

__all__ = ["command", "comparison"]

REPORT_WIDTH = 110


@click.command()
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("domicile-demo.html"),
    show_default=True,
    help="Where to write the same as an HTML page.",
)
def command(report: Path) -> None:
    """Start a mixed load on a simulated host, as Xen would place it and as domicile does, and compare."""
    with Status("", console=Console(stderr=True)) as status:
        story = tell(read_request, write_placement, status.update)
    view = _view(story)
    console().print(view)
    page = Console(record=True, width=REPORT_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    page.print(view)
    try:
        page.save_html(str(report))
    except OSError as error:
        raise BadInput(str(report), f"the report cannot be written: {error.strerror}; give --report another") from error
    click.echo(f"\nthe same as a page: {report}")


def _view(story: Story) -> RenderableType:
    return Group(
        Rule("the machine"),
        TopologyView(story.domicile.snapshot.topology),
        Rule("the same guests, placed by Xen and by domicile"),
        comparison(story.xen, story.domicile),
        _gain(story.xen, story.domicile),
        Rule("the host as domicile made it"),
        host_view("a simulated host", story.domicile.snapshot, None),
        Rule("then somebody pinned a vCPU of the database to node 0, and domicile verify says"),
        *[Text(str(deviation), style="red") for deviation in story.deviations],
    )


def comparison(xen: Chapter, ours: Chapter) -> Table:
    """A row for each guest: where each policy put it, and how slow it is predicted to run there."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("guest")
    table.add_column("vCPUs", justify="right")
    table.add_column("MiB", justify="right")
    table.add_column("Xen: nodes")
    table.add_column("slowdown", justify="right")
    table.add_column("domicile: nodes")
    table.add_column("slowdown", justify="right")
    table.add_column("gain", justify="right")
    for name, placement in ours.placements.items():
        domain = ours.snapshot.domain(name)
        before, after = xen.slowdown[name], ours.slowdown[name]
        table.add_row(
            name,
            str(len(domain.vcpus)) if domain else "",
            str(domain.memory_mib) if domain else "",
            format_ids(xen.placements[name].nodes),
            f"{before:.2f}",
            format_ids(placement.nodes),
            f"{after:.2f}",
            _change(before, after),
        )
    table.add_row(
        Text("mean", style="bold"), "", "", "", f"{xen.mean:.2f}", "", f"{ours.mean:.2f}", _change(xen.mean, ours.mean)
    )
    table.add_row("worst", "", "", "", f"{xen.worst:.2f}", "", f"{ours.worst:.2f}", _change(xen.worst, ours.worst))
    return table


def _change(before: float, after: float) -> Text:
    """How much faster, as a percentage of the time taken before."""
    gain = (before - after) / before
    style = "green" if gain > 0.005 else "red" if gain < -0.005 else ""
    return Text(f"{gain:+.0%}", style=style)


def _gain(xen: Chapter, ours: Chapter) -> Text:
    return Text(
        f"predicted by domicile's performance model: {(xen.mean - ours.mean) / xen.mean:.0%} less time on average; "
        f"1.00 is a guest alone on its best node",
        style="italic",
    )
