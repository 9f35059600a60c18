"""What all tests share: helpers in `tests/support` are imported by name."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from sim_world import World

# who runs the tests in the background has these ignored, and so would all that they start
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

sys.path.insert(0, str(Path(__file__).parent / "support"))


@pytest.fixture(scope="session")
def compiler() -> None:
    """A C compiler."""
    from needs import missing  # noqa: PLC0415 - found by the path above

    if not any(map(shutil.which, ("cc", "gcc"))):
        missing("no C compiler: apt-get install gcc libc6-dev")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what domicile remembers, the test's own."""
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A simulated host of four nodes with 1 GiB and two CPUs each, and its journal."""
    from sim_machines import machine, read_guest  # noqa: PLC0415 - not every test run has a use for them
    from sim_world import World  # noqa: PLC0415

    from domicile.hosts.simulated import create_simulated  # noqa: PLC0415
    from domicile.local.paths import STATE_VARIABLE  # noqa: PLC0415
    from domicile.manager.journal import Journal  # noqa: PLC0415

    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    topology = machine(devices={"0000:41:00.0": 1})
    host = create_simulated("box", topology, read_guest=read_guest)
    with host, Journal.for_host(host.snapshot().host_id) as journal:
        yield World(host, journal)


# A busy computer is no failure: no test here asserts a time. In CI examples are the same in every run.
settings.register_profile("domicile", settings.get_profile("ci" if "CI" in os.environ else "default"), deadline=None)
settings.load_profile("domicile")
