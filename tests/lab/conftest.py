"""The real Xen that the lab's tests run on: one for all of them, and new ones for those that break theirs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from domicile.errors import HostFailed
from domicile.lab import Lab, load_machine

REQUIRE = "require"


@pytest.fixture(scope="session")
def xen() -> Iterator[Lab]:
    """One running lab of the preset `4node`, for all tests. Who starts domains ends them."""
    with _started("4node", "tests") as lab:
        yield lab


@pytest.fixture(scope="module")
def lab_factory() -> Iterator[Callable[..., Lab]]:
    """New labs of a preset (default `4node`), for tests that break them; they end with the module."""
    labs: list[Lab] = []

    def start(preset: str = "4node") -> Lab:
        labs.append(_started(preset, None))
        return labs[-1]

    yield start
    for lab in labs:
        lab.stop()


def _started(preset: str, name: str | None) -> Lab:
    """A lab, or a skip with the reason it cannot be had; with DOMICILE_LAB=require that is a failure."""
    try:
        return Lab.start(load_machine(preset), name=name and f"{name}-{os.getpid()}", machine_name=preset)
    except HostFailed as error:
        if os.environ.get("DOMICILE_LAB") == REQUIRE:
            raise
        pytest.skip(f"no lab: {error}")
