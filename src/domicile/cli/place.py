"""`domicile place`: a plan only."""

from __future__ import annotations

from domicile.cli.configs import Asked, placing_command, read_request
from domicile.cli.output import SEARCH_COMPILING_S, print_json, say_if_compiling, show
from domicile.cli.plan_json import plan_json
from domicile.cli.plan_view import plan_view
from domicile.hosts.open import open_host
from domicile.manager.guests import read_guests, require_possible

__all__ = ["command"]


@placing_command
def command(asked: Asked, uri: str) -> None:
    """Plan where the guests of these xl.cfg files should live, and say why; nothing is changed."""
    texts, intent = asked.texts(), asked.intent()
    with open_host(uri) as host:
        decide = asked.policy(host)
        snapshot = host.snapshot()
    guests = read_guests(texts, snapshot, read_request)
    require_possible(snapshot, guests)
    with say_if_compiling("the search", SEARCH_COMPILING_S):
        plan = decide(snapshot, [guest.request for guest in guests], intent)
    if asked.as_json:
        print_json(plan_json(plan, explain=asked.explain))
    else:
        show(plan_view(plan, explain=asked.explain))
