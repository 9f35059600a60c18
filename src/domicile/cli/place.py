"""`domicile place`: a plan only."""

from __future__ import annotations

from pathlib import Path

import click

from domicile.cli.configs import (
    chosen_policy,
    config_texts,
    intent_of,
    measured_load,
    placing_options,
    read_request,
)
from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import print_json, show
from domicile.cli.plan_json import plan_json
from domicile.cli.plan_view import plan_view
from domicile.hosts.open import open_host
from domicile.manager.guests import read_guests, require_possible

__all__ = ["command"]


@click.command()
@placing_options
@connect_option
def command(
    configs: tuple[str, ...],
    connect: str | None,
    policy_name: str,
    intent_path: Path | None,
    window_s: float,
    *,
    exact: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Plan where the guests of these xl.cfg files should live, and say why; nothing is changed."""
    texts = config_texts(configs)
    intent = intent_of(intent_path)
    with open_host(default_uri(connect)) as host:
        decide = chosen_policy(policy_name, exact=exact, load=measured_load(host, window_s))
        snapshot = host.snapshot()
    guests = read_guests(texts, snapshot, read_request)
    require_possible(snapshot, guests)
    plan = decide(snapshot, [guest.request for guest in guests], intent)
    if as_json:
        print_json(plan_json(plan, explain=explain))
    else:
        show(plan_view(plan, explain=explain))
