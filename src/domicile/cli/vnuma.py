"""`domicile vnuma`: the virtual topology a guest should get, as xl.cfg lines."""

from __future__ import annotations

import sys

import click

from domicile.cli.configs import Asked, placing_command, read_request, write_placement
from domicile.cli.output import plain, print_json
from domicile.cli.plan_json import vnuma_json
from domicile.hosts.open import open_host
from domicile.manager.guests import Guest, read_guests, require_possible
from domicile.manager.recorded import with_recorded
from domicile.policies.plan import VNODES_TERM as TERM
from domicile.policies.plan import Placement
from domicile.topology.model import Topology
from domicile.xlcfg.edit import added_lines
from domicile.xlcfg.syntax import parse
from domicile.xlcfg.values import rendered
from domicile.xlcfg.vnuma import vnuma_value

__all__ = ["command"]

NONE_NEEDED = "no virtual nodes: it is no wider than a node, and none are asked for (--vnuma N)"


@placing_command
def command(asked: Asked, uri: str) -> None:
    """Print the virtual topology that the guests of these xl.cfg files should get, as lines for the files.

    Exit status 1 where one should have virtual nodes and can have none, with the reason; the next best lines are
    printed all the same.
    """
    texts, intent = asked.texts(), asked.intent()
    with open_host(uri) as host:
        decide = asked.policy(host)
        snapshot = host.snapshot()
    guests = with_recorded(read_guests(texts, snapshot, read_request), snapshot)
    require_possible(snapshot, guests)
    plan = decide(snapshot, [guest.request for guest in guests], intent)
    topology = snapshot.topology
    lines = [_lines(guest, placement, topology) for guest, placement in zip(guests, plan.placements, strict=True)]
    why = {
        placement.domain: [term.reason for term in placement.terms if term.name == TERM] or [NONE_NEEDED]
        for placement in plan.placements
    }
    if asked.as_json:
        print_json(
            {
                "guests": [
                    {
                        "domain": placement.domain,
                        "vnuma": vnuma_json(placement.vnodes),
                        "lines": added,
                        "reasons": why[placement.domain],
                    }
                    for placement, added in zip(plan.placements, lines, strict=True)
                ]
            }
        )
    else:
        for placement, added in zip(plan.placements, lines, strict=True):
            for reason in why[placement.domain]:
                click.echo(plain(f"# {placement.domain}: {reason}"))
            for line in added:
                click.echo(plain(line))
    lacking = [one for one in plan.placements if not one.vnodes and any(term.name == TERM for term in one.terms)]
    sys.exit(1 if lacking else 0)


def _lines(guest: Guest, placement: Placement, topology: Topology) -> list[str]:
    """What is to be added to a guest's file; for virtual nodes that it sets itself, what it says."""
    added = added_lines(parse(write_placement(guest.config, placement, guest.request, topology), guest.config.source))
    if placement.vnodes and not any(line.startswith("vnuma = ") for line in added):
        added.append(f"vnuma = {rendered(vnuma_value(placement.vnodes))}")
    return added
