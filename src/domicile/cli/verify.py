"""`domicile verify`: what is against what was intended."""

from __future__ import annotations

import sys
from typing import Any

import click

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import plain, print_json
from domicile.hosts.open import open_host
from domicile.manager.journal import Journal
from domicile.manager.verify import Verification, forget, verify
from domicile.state.model import MemoryMapAge

__all__ = ["command"]


@click.command()
@connect_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option(
    "--forget",
    "forgotten",
    metavar="DOMAIN",
    multiple=True,
    help="Look after this domain no more (it was destroyed on purpose), then verify the others.",
)
def command(connect: str | None, forgotten: tuple[str, ...], *, as_json: bool) -> None:
    """Compare the host with what was intended; exit status 1 with every difference."""
    # which journal is this host's follows from what it says of itself
    with open_host(default_uri(connect)) as host, Journal.for_host(host.snapshot().host_id) as journal:
        for domain in forgotten:
            forget(journal, domain)
        found = verify(host, journal, MemoryMapAge.NOW)
    if as_json:
        print_json(_as_json(found))
    else:
        _as_text(found)
    sys.exit(1 if found.deviations else 0)


def _as_text(found: Verification) -> None:
    for deviation in found.deviations:
        click.echo(plain(str(deviation)))
    for line in found.unchecked:
        click.echo(plain(f"note: {line}"))
    differences = len(found.deviations)
    told = f"{differences} difference{'s' * (differences != 1)}" if differences else "all as intended"
    click.echo(f"{found.checked} domain{'s' * (found.checked != 1)} looked after: {told}")


def _as_json(found: Verification) -> dict[str, Any]:
    return {
        "checked": found.checked,
        "deviations": [
            {"domain": one.domain, "kind": one.kind.value, "intended": one.intended, "seen": one.seen}
            for one in found.deviations
        ],
        "unchecked": list(found.unchecked),
    }
