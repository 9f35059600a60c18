"""What `place` and `create` share: the configurations they are given, the policy, and the load they count with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import SEARCH_COMPILING_S, plain, say_if_compiling
from domicile.cli.searching import SEARCH_OPTIONS, Interruption, searching
from domicile.cli.waiting import wait
from domicile.errors import BadInput, HostFailed
from domicile.hosts.protocol import Host
from domicile.intent_file import MOST_VNODES, load_intent
from domicile.manager.guests import ConfigText
from domicile.manager.load_history import known_demand
from domicile.manager.promise import Policy
from domicile.policies.plan import Placement, PlacementPlan
from domicile.policies.registry import DEFAULT_POLICY, POLICIES, policy
from domicile.state.demand import demand_between, demand_of, seen_now
from domicile.state.load import busy_traffic, load_between
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest, Intent, VnumaMode, VnumaWish
from domicile.topology.model import Topology
from domicile.xlcfg.guest import place_into, read_guest
from domicile.xlcfg.overhead import Hardware
from domicile.xlcfg.syntax import MAX_CONFIG_BYTES, decode, parse

__all__ = [
    "Asked",
    "config_texts",
    "demand_now",
    "intent_now",
    "look_before",
    "placing_command",
    "read_request",
    "write_placement",
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command that decides where guests go is asked: its arguments and options."""

    configs: tuple[str, ...]
    policy_name: str
    intent_path: Path | None
    window_s: float
    exact: bool
    explain: bool
    as_json: bool
    budget_s: float
    seed: int
    pool: str | None = None
    vnuma: VnumaWish | None = None

    def texts(self) -> list[ConfigText]:
        """The configurations' texts; `-` is standard input. Raises `BadInput` for one that cannot be read."""
        return config_texts(self.configs)

    def intent(self) -> Intent:
        """The administrator's intent, with what the command line has to say of it. Raises `BadInput`."""
        intent = load_intent(self.intent_path)
        return intent if self.vnuma is None else replace(intent, vnuma=self.vnuma, vnuma_by_domain=())

    def policy(self, host: Host) -> Policy:
        """The policy, ready to be given a snapshot, requests and intent.

        How busy domains are it takes from a window that ends with the snapshot, if one was asked for, else from all
        that was seen of the host.
        """
        # these need NumPy, which --help does not
        from domicile.policies.placement import place as search  # noqa: PLC0415
        from domicile.policies.vnuma import with_vnuma  # noqa: PLC0415

        chosen = policy(self.policy_name)
        searches = self.policy_name == DEFAULT_POLICY
        if not searches and (self.budget_s or self.seed):
            option = "--budget" if self.budget_s else "--seed"
            raise BadInput(option, f"policy {self.policy_name!r} does not search")
        earlier = look_before(host, self.window_s)

        def decide(snapshot: Snapshot, requests: Sequence[GuestRequest], intent: Intent) -> PlacementPlan:
            load, intent = demand_now(snapshot, earlier), intent_now(intent, snapshot, earlier)
            interruption = Interruption()

            def place(at: Snapshot, some: Sequence[GuestRequest], wanted: Intent) -> PlacementPlan:
                if not searches or len(some) == 1:
                    return chosen(at, some, wanted, exact=self.exact, load=load)
                with (
                    say_if_compiling("the search", SEARCH_COMPILING_S),
                    searching(self.budget_s, self.seed, interruption) as effort,
                ):
                    return search(at, some, wanted, exact=self.exact, load=load, effort=effort)

            # Ctrl-C is for the command, unless it is known to take its time over this
            patient = searches and (self.budget_s or self.exact)
            # what others' policies do by themselves is left as it is
            with interruption.watched() if patient else nullcontext():
                return with_vnuma(place, load, unasked=searches)(snapshot, requests, intent)

        return decide


def placing_command(function: Callable[[Asked, str], None]) -> click.Command:
    """A command of this function, with the options of all that decide where guests go. The URI comes second."""

    @wraps(function)
    def asked(connect: str | None, **options: Any) -> None:
        function(Asked(**options), default_uri(connect))

    command = connect_option(asked)
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.command()(command)


def _vnuma_wish(context: click.Context, option: click.Parameter, text: str | None) -> VnumaWish | None:
    """What `--vnuma` says."""
    if text is None or text in tuple(VnumaMode):
        return None if text is None else VnumaMode(text)
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_VNODES:
        return int(text)
    raise click.BadParameter(f"{text!r} is none of auto, off and a number from 1 to {MOST_VNODES}", context, option)


_OPTIONS = (
    click.argument("configs", nargs=-1, required=True, metavar="CONFIG..."),
    click.option(
        "--policy",
        "policy_name",
        type=click.Choice(list(POLICIES)),
        default=DEFAULT_POLICY,
        show_default=True,
        help="; ".join(f"{name}: {line}" for name, line in POLICIES.items()),
    ),
    click.option(
        "--exact",
        is_flag=True,
        help="Prove that no assignment is better: by trying them all, or by HiGHS (for --budget, else 60 s).",
    ),
    *SEARCH_OPTIONS,
    click.option("--explain", is_flag=True, help="Show each term of the objective beside the next best choices."),
    click.option("--json", "as_json", is_flag=True, help="For machines."),
    click.option(
        "--config",
        "intent_path",
        type=click.Path(path_type=Path),
        help="Groups and device policy (TOML); else /etc/domicile/domicile.toml, where it is there.",
    ),
    click.option(
        "--vnuma",
        metavar="auto|off|N",
        callback=_vnuma_wish,
        help="Virtual nodes: for guests wider than any node (auto), for none (off), or so many for each; else as "
        "domicile.toml says, else auto.",
    ),
    click.option(
        "--window",
        "window_s",
        type=click.FloatRange(min=0, max=3600),
        default=0.0,
        help="Measure for this many seconds first how busy domains are; without, by what earlier commands saw of them, "
        "what is longer ago counting less, or since their start.",
    ),
)


def config_texts(paths: Sequence[str]) -> list[ConfigText]:
    """The texts of configurations; `-` is standard input. Raises `BadInput` for one that cannot be read."""
    return [ConfigText("standard input" if path == "-" else path, decode(_bytes(path))) for path in paths]


def _bytes(path: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read(MAX_CONFIG_BYTES + 1)
        with Path(path).open("rb") as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise BadInput(path, f"cannot be read: {error.strerror or error}") from error


def read_request(config: ConfigText, snapshot: Snapshot) -> GuestRequest:
    """What a configuration asks for on this host."""
    hardware = Hardware.of(snapshot.virt_caps) if snapshot.virt_caps else None
    return read_guest(parse(config.text, config.source), snapshot.topology, hardware)


def write_placement(config: ConfigText, placement: Placement, request: GuestRequest, topology: Topology) -> str:
    """The configuration with the placement in it."""
    return place_into(config.text, placement, request, topology)


def look_before(host: Host, window_s: float) -> Snapshot | None:
    """The host as it is now, once so many seconds have passed since; None for none."""
    if not window_s:
        return None
    earlier = host.snapshot()
    wait(host, window_s)
    return earlier


def demand_now(snapshot: Snapshot, earlier: Snapshot | None) -> dict[str, float]:
    """The domains' demand, in vCPUs busy at once: what a window says goes before what was seen until then."""
    try:
        found = known_demand(snapshot)
    except HostFailed as failed:
        # a plan is worth having without it: what a domain used since its start is known all the same
        click.echo(f"domicile: how busy domains were before is not known: {plain(str(failed))}", err=True)
        found = demand_of(snapshot, seen_now(snapshot))
    return found | (demand_between(earlier, snapshot) if earlier else {})


def intent_now(intent: Intent, snapshot: Snapshot, earlier: Snapshot | None) -> Intent:
    """The intent, with the memory traffic that a window has measured of domains of which it states none."""
    from domicile.policies.known import characters  # noqa: PLC0415 - needs NumPy, which --help does not

    if earlier is None:
        return intent
    load = load_between(earlier, snapshot)
    return replace(intent, domains=characters(intent.domains, busy_traffic(load.traffic_gbs, load.domains)))
