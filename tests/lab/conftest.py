"""The real Xen for tests: one that all share, and fresh ones for those that change it or break it.

`DOMICILE_LAB=require` (set in CI) makes every reason not to run these tests a failure; without it they are skipped,
with the reason, where QEMU is not installed or the image cannot be built.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from domicile.errors import HostFailed
from domicile.lab import Lab, load_machine
from domicile.lab.guests.control import GuestEnded
from domicile.lab.image import ensure

FreshXen = Callable[..., Lab]

LAB_TIMEOUT_S = 1800
"""The first test builds the image and boots; a busy computer takes a multiple of what a quiet one does."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lab tests get the time they need, and one worker of pytest-xdist: QEMU keeps all cores busy by itself.

    One whose guest ended though nobody stopped it is tried once more: in one of some hundred starts the emulator runs
    code of a guest's kernel that is not there any more (`lab.stale_code`), and the kernel gives up.
    """
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.timeout(LAB_TIMEOUT_S))
            item.add_marker(pytest.mark.xdist_group("lab"))
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=[GuestEnded.__name__]))


@pytest.fixture(scope="session")
def lab_possible() -> None:
    """The image is there, or the test is skipped (failed, where the lab is required)."""
    try:
        ensure()
    except HostFailed as error:
        if os.environ.get("DOMICILE_LAB") == "require":
            pytest.fail(f"the lab is required and cannot be had: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def xen(lab_possible: None) -> Iterator[Lab]:
    """A running lab of the preset `4node` that all tests share: leave it as you found it."""
    with Lab.start(load_machine("4node"), machine_name="4node") as lab:
        yield lab


@pytest.fixture
def fresh_xen(lab_possible: None) -> Iterator[FreshXen]:
    """Starts labs of its own for a test: `fresh_xen("4node-pci")`. They end with the test."""
    started: list[Lab] = []

    def start(machine: str = "4node", **how: object) -> Lab:
        lab = Lab.start(load_machine(machine), machine_name=machine, **how)  # type: ignore[arg-type]
        started.append(lab)
        return lab

    yield start
    for lab in started:
        lab.stop()


@pytest.fixture(scope="module")
def lab_factory(lab_possible: None) -> Iterator[FreshXen]:
    """As `fresh_xen`, for labs that end with the module."""
    started: list[Lab] = []

    def start(machine: str = "4node") -> Lab:
        started.append(Lab.start(load_machine(machine), machine_name=machine))
        return started[-1]

    yield start
    for lab in started:
        lab.stop()
