"""What a simulated host's URI says of it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from sim_machines import machine, read_guest

from domicile.errors import BadInput
from domicile.hosts.simulated import SimulatedHost, open_simulated
from domicile.hosts.simulated.address import parse_address
from domicile.hosts.simulated.advance import SCHEDULERS

pytestmark = pytest.mark.usefixtures("state")


def opened(uri: str) -> SimulatedHost:
    return open_simulated(uri, presets={"four": machine, "two": lambda: machine([1024] * 2)}, read_guest=read_guest)


def test_the_schedulers_are_those_of_the_simulator() -> None:
    stepper = pytest.importorskip("domicile.simulator.scheduler.stepper")
    assert sorted(SCHEDULERS) == sorted(kind.value for kind in stepper.SchedulerKind)


def test_a_name_alone_is_the_presets() -> None:
    address = parse_address("sim:///four")
    assert (address.name, address.machine, address.scheduler, address.seed) == ("four", "four", "credit2", 0)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("sim:///x?scheduler=rtds", r"scheduler: 'rtds' is none of credit2, credit, numa"),
        ("sim:///x?scheduler=", r"scheduler: '' is none of"),
        ("sim:///x?seed=-1", r"seed: '-1' is no number"),
        ("sim:///x?seed=1e3", r"seed: '1e3' is no number"),
        ("sim:///x?seed=1&seed=2", r"says the same thing twice"),
        ("sim:///x?cpus=4", r"'cpus' is nothing to say of a simulated host; give machine, scheduler, seed"),
        ("sim:///x?machine", r"not a host URI"),
        ("sim:///x?machine=nosuch", r"no preset is called 'nosuch'; presets: four, two"),
    ],
)
def test_what_cannot_be_said(uri: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        opened(uri)


def test_it_is_made_as_said_and_stays_so() -> None:
    with opened("sim:///mine?machine=two&scheduler=credit&seed=007") as host:
        assert host.snapshot().scheduler == "credit"
        assert len(host.snapshot().topology.nodes) == 2
    for again in ("sim:///mine", "sim:///mine?seed=7", "sim:///mine?scheduler=credit&machine=two"):
        with opened(again) as host:
            assert host.snapshot().scheduler == "credit"


@pytest.mark.parametrize(
    ("said", "found"),
    [({"scheduler": "credit2"}, "scheduler=credit"), ({"seed": "8"}, "seed=7"), ({"machine": "four"}, "machine=two")],
)
def test_what_is_there_otherwise_says_what_to_do(said: Mapping[str, str], found: str, state: Path) -> None:
    opened("sim:///mine?machine=two&scheduler=credit&seed=7").close()
    query = "&".join(f"{word}={value}" for word, value in said.items())
    with pytest.raises(BadInput, match=f"mine is there already, with {found}; take another name") as caught:
        opened(f"sim:///mine?{query}")
    subprocess.run(shlex.split(str(caught.value).partition("remove it with: ")[2]), check=True)
    with opened(f"sim:///mine?machine=two&{query}") if "machine" not in said else opened(f"sim:///mine?{query}"):
        pass
