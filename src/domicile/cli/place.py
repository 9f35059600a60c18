"""`domicile place`: a plan only, for one host or (`--pool`) for many."""

from __future__ import annotations

import click
from click.core import ParameterSource

from domicile.cli.configs import Asked, placing_command, read_request
from domicile.cli.output import print_json, show
from domicile.cli.plan_json import plan_json
from domicile.cli.plan_view import plan_view
from domicile.errors import BadInput
from domicile.hosts.open import open_host
from domicile.manager.guests import read_guests, require_possible
from domicile.manager.recorded import with_recorded

__all__ = ["command"]

FOR_A_POOL = ("configs", "pool", "as_json")
"""The arguments and options that `--pool` goes together with."""


@placing_command
def command(asked: Asked, uri: str) -> None:
    """Plan where the guests of these xl.cfg files should live, and say why; nothing is changed.

    With --pool, a CONFIG may also be a file of guests as JSON lines, and the plan says which host of the pool each
    guest should live on, too.
    """
    if asked.pool is not None:
        _place_in_pool(asked.configs, asked.pool, as_json=asked.as_json)
        return
    texts, intent = asked.texts(), asked.intent()
    with open_host(uri) as host:
        decide = asked.policy(host)
        snapshot = host.snapshot()
    guests = with_recorded(read_guests(texts, snapshot, read_request), snapshot)
    require_possible(snapshot, guests)
    plan = decide(snapshot, [guest.request for guest in guests], intent)
    if asked.as_json:
        print_json(plan_json(plan, explain=asked.explain))
    else:
        show(plan_view(plan, explain=asked.explain))


command = click.option(
    "--pool", metavar="HOSTS", help="Place on the hosts of this file (JSON lines) instead of on one host."
)(command)


def _place_in_pool(configs: tuple[str, ...], pool: str, *, as_json: bool) -> None:
    from domicile.cli.pool import place_pool  # noqa: PLC0415 - for this option only

    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name not in FOR_A_POOL:
            raise BadInput("--pool", f"does not go together with {parameter.opts[-1]}; leave one of them out")
    place_pool(pool, configs, as_json=as_json)
