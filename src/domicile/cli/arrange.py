"""`domicile arrange`: a plan for the whole host laid out again, with newcomers if there are any. Nothing is moved."""

from __future__ import annotations

from pathlib import Path

import click

from domicile.cli.arrange_view import arrange_json, arrange_view
from domicile.cli.configs import config_texts, demand_now, intent_now, look_before, read_request
from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import SEARCH_COMPILING_S, print_json, say_if_compiling, show
from domicile.cli.searching import SEARCH_OPTIONS, Interruption, searching
from domicile.errors import Refused
from domicile.hosts.open import open_host
from domicile.intent_file import load_intent
from domicile.manager.guests import read_guests, require_possible
from domicile.state.model import MemoryMapAge

__all__ = ["command"]


@click.argument("configs", nargs=-1, metavar="[CONFIG...]")
@connect_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option(
    "--config",
    "intent_path",
    type=click.Path(path_type=Path),
    help="Groups and device policy (TOML); else /etc/domicile/domicile.toml, where it is there.",
)
@click.option(
    "--window",
    "window_s",
    type=click.FloatRange(min=0, max=3600),
    default=0.0,
    help="Measure for this many seconds first how busy domains are; without, by what was seen of them until now.",
)
def _command(
    configs: tuple[str, ...],
    connect: str | None,
    *,
    as_json: bool,
    intent_path: Path | None,
    window_s: float,
    budget_s: float,
    seed: int,
) -> None:
    """Plan where all domains that can move, and the guests of these xl.cfg files, would best live. Says what
    that gains and how much memory would have to move; nothing is changed."""
    from domicile.policies.placement.afresh.host import lay_out_afresh  # noqa: PLC0415 - needs NumPy, which --help does not
    from domicile.policies.placement.afresh.no_way import NoWay  # noqa: PLC0415

    texts, intent = config_texts(configs), load_intent(intent_path)
    with open_host(default_uri(connect)) as host:
        earlier = look_before(host, window_s)
        snapshot = host.snapshot(MemoryMapAge.RECENT)
    load, intent = demand_now(snapshot, earlier), intent_now(intent, snapshot, earlier)
    guests = read_guests(texts, snapshot, read_request)
    require_possible(snapshot, guests)
    interruption = Interruption()
    with (
        say_if_compiling("the search", SEARCH_COMPILING_S),
        interruption.watched(),
        searching(budget_s, seed, interruption) as effort,
    ):
        try:
            plan = lay_out_afresh(snapshot, [guest.request for guest in guests], intent, load=load, effort=effort)
        except NoWay as error:
            raise Refused("no layout of the whole host with room for all was found; free some memory") from error
    if as_json:
        print_json(arrange_json(plan))
    else:
        show(arrange_view(plan))


for _option in reversed(SEARCH_OPTIONS):
    _command = _option(_command)
command = click.command("arrange")(_command)
