"""What `place` and `create` share: the configurations they are given, the policy, and the load they count with."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.waiting import wait
from domicile.errors import BadInput
from domicile.hosts.protocol import Host
from domicile.intent_file import MOST_VNODES, load_intent
from domicile.manager.guests import ConfigText
from domicile.manager.promise import Policy
from domicile.policies.effort import Effort
from domicile.policies.plan import Placement
from domicile.policies.registry import DEFAULT_POLICY, POLICIES, policy
from domicile.state.load import load_between
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest, Intent, VnumaMode, VnumaWish
from domicile.topology.model import Topology
from domicile.xlcfg.guest import place_into, read_guest
from domicile.xlcfg.overhead import Hardware
from domicile.xlcfg.syntax import MAX_CONFIG_BYTES, decode, parse

__all__ = ["Asked", "config_texts", "measured_load", "placing_command", "read_request", "write_placement"]


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
        """The policy, ready to be given a snapshot, requests and intent; it knows the load that was asked for."""
        # needs NumPy, which --help does not
        from domicile.policies.vnuma import with_vnuma  # noqa: PLC0415

        load = measured_load(host, self.window_s) if self.window_s else None
        decide = partial(policy(self.policy_name), exact=self.exact, load=load)
        if self.budget_s or self.seed:
            if self.policy_name != DEFAULT_POLICY:
                option = "--budget" if self.budget_s else "--seed"
                raise BadInput(option, f"policy {self.policy_name!r} does not search")
            decide = partial(decide, effort=self.effort())
        # what others' policies do by themselves is left as it is
        return with_vnuma(decide, load, unasked=self.policy_name == DEFAULT_POLICY)

    def effort(self) -> Effort:
        """How long to search: until the budget is used up."""
        ends_s = time.monotonic() + self.budget_s
        if not self.budget_s:
            return Effort(seed=self.seed)
        return Effort(self.seed, more=lambda: time.monotonic() < ends_s, proof_s=self.budget_s)


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
    click.option(
        "--budget",
        "budget_s",
        type=click.FloatRange(min=0, max=86400),
        default=0.0,
        help="Search for this many seconds, where several guests are placed at once.",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed starts the search elsewhere."),
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
        help="Measure the residents' load for this many seconds first; without, every online vCPU counts as busy.",
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


def measured_load(host: Host, window_s: float) -> Mapping[str, float]:
    """The domains' load over this many seconds, in vCPUs busy at once."""
    earlier = host.snapshot()
    wait(host, window_s)
    return load_between(earlier, host.snapshot()).domains
