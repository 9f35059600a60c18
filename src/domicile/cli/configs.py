"""What `place` and `create` share: the configurations they are given, the policy, and the load they count with."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from domicile.errors import BadInput
from domicile.hosts.protocol import Host
from domicile.intent_file import load_intent
from domicile.manager.guests import ConfigText
from domicile.manager.promise import Policy
from domicile.policies.plan import Placement
from domicile.policies.registry import DEFAULT_POLICY, POLICIES, policy
from domicile.state.load import load_between
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest, Intent
from domicile.topology.model import Topology
from domicile.xlcfg.guest import place_into, read_guest
from domicile.xlcfg.overhead import Hardware
from domicile.xlcfg.syntax import MAX_CONFIG_BYTES, decode, parse

__all__ = ["chosen_policy", "config_texts", "measured_load", "placing_options", "read_request", "write_placement"]

Command = TypeVar("Command", bound=Callable[..., Any])


def placing_options(command: Command) -> Command:
    """The options of every command that decides where guests go."""
    options = [
        click.argument("configs", nargs=-1, required=True, metavar="CONFIG..."),
        click.option(
            "--policy",
            "policy_name",
            type=click.Choice(list(POLICIES)),
            default=DEFAULT_POLICY,
            show_default=True,
            help="; ".join(f"{name}: {line}" for name, line in POLICIES.items()),
        ),
        click.option("--exact", is_flag=True, help="Prove that no assignment is better, by trying them all."),
        click.option("--explain", is_flag=True, help="Show each term of the objective beside the next best choices."),
        click.option("--json", "as_json", is_flag=True, help="For machines."),
        click.option(
            "--config",
            "intent_path",
            type=click.Path(path_type=Path),
            help="Groups and device policy (TOML); else /etc/domicile/domicile.toml, where it is there.",
        ),
        click.option(
            "--window",
            "window_s",
            type=click.FloatRange(min=0, max=3600),
            default=0.0,
            help="Measure the residents' load for this many seconds first; without, every online vCPU counts as busy.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def config_texts(paths: Sequence[str]) -> list[ConfigText]:
    """The configurations' texts; `-` is standard input. Raises `BadInput` for one that cannot be read."""
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


def chosen_policy(name: str, *, exact: bool, load: Mapping[str, float] | None) -> Policy:
    """The policy of this name, ready to be given a snapshot, requests and intent."""
    return partial(policy(name), exact=exact, load=load)


def intent_of(path: Path | None) -> Intent:
    """The administrator's intent."""
    return load_intent(path)


def measured_load(host: Host, window_s: float) -> Mapping[str, float] | None:
    """The domains' load over this many seconds, in vCPUs busy at once; None for a window of 0."""
    if not window_s:
        return None
    earlier = host.snapshot()
    time.sleep(window_s)
    return load_between(earlier, host.snapshot()).domains
