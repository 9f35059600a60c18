"""`domicile show`: the host now."""

from __future__ import annotations

import click

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.host_json import host_json
from domicile.cli.host_view import host_view
from domicile.cli.output import print_json, show
from domicile.cli.waiting import wait
from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.state.load import Load, load_between
from domicile.state.model import MemoryMapAge, Snapshot

__all__ = ["command"]

USUAL_WINDOW_S = 1.0
LONGEST_WINDOW_S = 31 * 86400.0
"""A month, for hosts whose time takes none of ours."""


@click.command()
@connect_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option(
    "--memory-map",
    type=click.Choice([age.value for age in MemoryMapAge]),
    default=MemoryMapAge.RECENT.value,
    show_default=True,
    help="How fresh the domains' memory by node has to be: finding it out walks every page, so the host rations it.",
)
@click.option(
    "--window",
    "window_s",
    type=click.FloatRange(min=0, max=LONGEST_WINDOW_S),
    help="Measure load for this many seconds; 0 does not.  [default: 1; on a simulated host 0: its time stands still "
    "but for this]",
)
def command(connect: str | None, *, as_json: bool, memory_map: str, window_s: float | None) -> None:
    """Show the host now: nodes with load and memory, domains with home, memory, vCPUs and what is remote."""
    uri = default_uri(connect)
    with open_host(uri) as host:
        if window_s is None:
            window_s = 0.0 if host.capabilities().simulated_time else USUAL_WINDOW_S
        snapshot, load = look(host, MemoryMapAge(memory_map), window_s)
    if as_json:
        print_json(host_json(uri, snapshot, load))
    else:
        show(host_view(uri, snapshot, load))


def look(host: Host, memory_map: MemoryMapAge, window_s: float) -> tuple[Snapshot, Load | None]:
    """A snapshot, and the load over a window that ends with it (None for a window of 0)."""
    if not window_s:
        return host.snapshot(memory_map), None
    earlier = host.snapshot()
    wait(host, window_s)
    later = host.snapshot(memory_map)
    return later, load_between(earlier, later)
