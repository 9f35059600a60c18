"""The arithmetic of counters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from domicile.lab.measure.counters import OTHER_CODE, XEN_CODE, CounterFile, Counters
from domicile.lab.measure.memory import MemoryLayout
from domicile.lab.measure.result import DOM0_OWNER, FIRST_GUEST_OWNER, GuestPlace, window

CPUS, NODES, OWNERS = 4, 2, 4
NODE_OF_CPU = (0, 0, 1, 1)
MEMORY = arrays(np.uint64, (CPUS, 2, NODES, OWNERS, 2), elements=st.integers(0, 2**50))
OTHER = arrays(np.uint64, (CPUS, 2, 3, 2), elements=st.integers(0, 2**50))
COUNTERS = st.builds(Counters, MEMORY, OTHER)
DOM0 = GuestPlace("Domain-0", 0, {0: 5})
PLACES = [GuestPlace(f"g{number}", number, {0: 5}) for number in range(OWNERS - FIRST_GUEST_OWNER)]


@given(COUNTERS, COUNTERS)
def test_a_window_is_the_difference_of_two_reads(before: Counters, grown: Counters) -> None:
    back = (before + grown) - before
    assert (back.memory == grown.memory).all()
    assert (back.other == grown.other).all()


@given(COUNTERS)
def test_shares_are_shares(counters: Counters) -> None:
    for code in (OTHER_CODE, XEN_CODE):
        for owners in (None, [0], [1, 2]):
            share = counters.remote_share(NODE_OF_CPU, code, owners)
            swapped = counters.remote_share(tuple(1 - node for node in NODE_OF_CPU), code, owners)
            assert (share is None) == (swapped is None) == (not counters.by_node(code, owners).any())
            if share is not None and swapped is not None:
                assert 0 <= share <= 1
                assert share + swapped == pytest.approx(1)


@given(COUNTERS)
def test_a_result_adds_up(counters: Counters) -> None:
    found = window(counters, 10.0, NODE_OF_CPU, DOM0, PLACES)
    assert found.loads + found.stores + found.xen_loads + found.xen_stores == counters.total
    assert sum(pcpu.local + pcpu.remote for pcpu in found.pcpus) == found.loads + found.stores
    outside = sum(pcpu.remote for pcpu in found.pcpus)
    if found.remote_share is not None:
        assert found.remote_share == pytest.approx(outside / (found.loads + found.stores))
    for guest in (found.dom0, *found.guests):
        assert sum(guest.ran_on.values()) == pytest.approx(1 if guest.accesses else 0)
    assert found.dom0.accesses == int(counters.by_node(OTHER_CODE, [DOM0_OWNER]).sum())
    assert sum(guest.accesses for guest in found.guests) == int(
        counters.by_node(OTHER_CODE, range(FIRST_GUEST_OWNER, OWNERS)).sum()
    )


def test_a_file_begins_with_nothing_counted_and_goes_with_its_block(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    with CounterFile(path, 2, MemoryLayout((128, 0, 128))) as counters:
        assert counters.read().total == counters.read().unplaced == 0
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_what_a_map_cannot_tell(tmp_path: Path) -> None:
    layout = MemoryLayout((128, 128))
    with pytest.raises(ValueError, match="more than the map can tell apart"):
        CounterFile(tmp_path / "c", 2, layout, owners=40_000)
    with CounterFile(tmp_path / "c", 2, layout, owners=2) as counters:
        with pytest.raises(ValueError, match="owner 2 of 2"):
            counters.set_owners({2: np.array([1])})
        with pytest.raises(ValueError, match="no memory"):
            counters.set_owners({1: np.array([256 << 8])})
