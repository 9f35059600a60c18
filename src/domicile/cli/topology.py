"""`domicile topology`: the machine."""

from __future__ import annotations

import click

from domicile.cli.connect import connect_option, is_dom0, named_uri
from domicile.errors import BadInput
from domicile.topology.model import Topology

__all__ = ["command"]


@click.command()
@click.argument("source", required=False)
@connect_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(source: str | None, connect: str | None, as_json: bool) -> None:
    """Show the machine: nodes, CPUs, memory, distances, devices.

    SOURCE is a preset's name, a host's URI, a Linux /sys tree (folder or tar), hwloc XML, `virsh capabilities`,
    `xl info -n`, or a machine file; `-` is standard input. Without it: the host given, else this machine.
    """
    topology = _topology(source, connect)
    if as_json:
        from domicile.cli.output import print_json  # noqa: PLC0415
        from domicile.topology.as_json import topology_json  # noqa: PLC0415

        print_json(topology_json(topology))
        return
    from domicile.cli.draw import TopologyView  # noqa: PLC0415 - rich takes longer to import than `--help` may
    from domicile.cli.output import show  # noqa: PLC0415

    show(TopologyView(topology))


def _topology(source: str | None, connect: str | None) -> Topology:
    """The machine that is meant."""
    from domicile.topology.detect import read_topology  # noqa: PLC0415

    if source is not None and connect is not None:
        raise BadInput(source, "give either a source or --connect")
    if source is None:
        # Dom0's own /sys shows a virtual machine; Xen knows the real one
        source = named_uri(connect) or ("xen:///" if is_dom0() else "/sys")
        if connect is not None or source != "/sys":
            return _of_host(source)
    return read_topology(source, from_host=_of_host)


def _of_host(uri: str) -> Topology:
    """The machine under a host."""
    from domicile.hosts.open import open_host  # noqa: PLC0415

    with open_host(uri) as host:
        return host.snapshot().topology
