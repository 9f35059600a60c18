"""`domicile place`: a plan only."""

from __future__ import annotations

from domicile.cli.configs import Asked, placing_command, read_request
from domicile.cli.output import print_json, show
from domicile.cli.plan_json import plan_json
from domicile.cli.plan_view import plan_view
from domicile.hosts.open import open_host
from domicile.manager.guests import read_guests, require_possible
from domicile.manager.recorded import with_recorded

__all__ = ["command"]


@placing_command
def command(asked: Asked, uri: str) -> None:
    """Plan where the guests of these xl.cfg files should live, and say why; nothing is changed."""
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
