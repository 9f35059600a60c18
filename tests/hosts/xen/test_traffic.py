"""`Traffic`: memory traffic by domain, from a libxenctrl that a test stands in for."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, cast

import pytest

from domicile.hosts.xen.dom0.agent.direct import Direct
from domicile.hosts.xen.dom0.agent.traffic import BY_SOCKET, WRAPS, Traffic, made_by

UNIT = 65536


class Library:
    """libxenctrl's `xc_psr_cmt_*` on a host of two sockets with CPUs 0, 1 and 2, 3: `numbers` RMIDs."""

    def __init__(self, numbers: int = 8, events: int = 7) -> None:
        self.numbers, self.events = numbers, events
        self.given: dict[int, int] = {}
        self.counters: dict[tuple[int, int], int] = {}
        self.silent: set[int] = set()

    @staticmethod
    def fill(reference: Any, value: int) -> int:
        reference._obj.value = value
        return 0

    def xc_psr_cmt_get_l3_event_mask(self, handle: ctypes.c_void_p, mask: Any) -> int:
        return self.fill(mask, self.events) if self.events else -1

    def xc_psr_cmt_get_total_rmid(self, handle: ctypes.c_void_p, total: Any) -> int:
        return self.fill(total, self.numbers)

    def xc_psr_cmt_get_l3_upscaling_factor(self, handle: ctypes.c_void_p, factor: Any) -> int:
        return self.fill(factor, UNIT)

    def xc_psr_cmt_get_domain_rmid(self, handle: ctypes.c_void_p, domid: ctypes.c_uint32, number: Any) -> int:
        return self.fill(number, self.given.get(domid.value, 0))

    def xc_psr_cmt_attach(self, handle: ctypes.c_void_p, domid: ctypes.c_uint32) -> int:
        free = sorted(set(range(1, self.numbers + 1)) - set(self.given.values()))
        if not free:
            return -1
        self.given[domid.value] = free[0]
        return 0

    def xc_psr_cmt_get_data(
        self,
        handle: ctypes.c_void_p,
        number: ctypes.c_uint32,
        cpu: ctypes.c_uint32,
        kind: ctypes.c_uint32,
        value: Any,
        tsc: None,
    ) -> int:
        assert (kind.value, tsc) == (1, None)
        if cpu.value in self.silent:
            return -1
        return self.fill(value, self.counters.get((number.value, cpu.value // 2), 0))

    def count(self, domid: int, socket: int, units: int, wraps: int = WRAPS) -> None:
        key = self.given[domid], socket
        self.counters[key] = (self.counters.get(key, 0) + units) % wraps


class Xc:
    def topologyinfo(self) -> dict[str, Any]:
        return {"cpu_to_socket": [0, 0, 1, 1, None]}


class Here:
    """What `Traffic` wants of `Direct`."""

    def __init__(self, library: object) -> None:
        self.library, self.handle, self.xc = library, 1, Xc()


def traffic(library: object, maker: str = BY_SOCKET) -> Traffic:
    return Traffic(cast("Direct", Here(library)), maker)


def test_none_where_a_socket_has_several_caches_that_count() -> None:
    """AMD's say by the same bits that they count."""
    assert traffic(Library(), "AuthenticAMD").read([0, 1], begin=True) == {}
    assert traffic(Library(), "").read([0, 1], begin=True) == {}


def test_who_made_the_processors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n\nprocessor\t: 1\n", encoding="ascii")
    assert made_by(str(path)) == "GenuineIntel"
    path.write_text("processor\t: 0\n", encoding="ascii")
    assert made_by(str(path)) == ""


def test_bytes_of_all_sockets_since_the_first_look() -> None:
    library = Library()
    library.given[3] = 5
    library.counters[5, 0] = 1000
    found = traffic(library)
    assert found.read([0, 3], begin=False) == {3: 0}
    library.count(3, 0, 10)
    library.count(3, 1, 5)
    assert found.read([0, 3], begin=False) == {3: 15 * UNIT}
    library.count(3, 1, 1)
    assert found.read([0, 3], begin=False) == {3: 16 * UNIT}


def test_only_a_manager_has_domains_counted() -> None:
    library = Library()
    found = traffic(library)
    assert found.read([0, 1, 2], begin=False) == {}
    assert found.read([0, 1, 2], begin=True) == {0: 0, 1: 0, 2: 0}
    assert found.read([0, 1, 2], begin=False) == {0: 0, 1: 0, 2: 0}


def test_as_many_as_there_are_numbers() -> None:
    """Somebody has one already; when a domain ends, its number goes to the next."""
    library = Library(numbers=3)
    library.given[7] = 2
    found = traffic(library)
    assert found.read([0, 1, 2, 7], begin=True).keys() == {0, 1, 7}
    del library.given[1]
    assert found.read([0, 2, 7], begin=True).keys() == {0, 2, 7}


@pytest.mark.parametrize("wraps", [WRAPS, 1 << 32])
def test_a_counter_that_begins_again_and_one_of_more_bits_that_does_not(wraps: int) -> None:
    library = Library()
    library.given[3] = 1
    library.counters[1, 0] = WRAPS - 3
    found = traffic(library)
    found.read([3], begin=False)
    library.count(3, 0, 10, wraps)
    assert found.read([3], begin=False) == {3: 10 * UNIT}


def test_a_socket_that_cannot_tell_for_a_while() -> None:
    """What it counted meanwhile comes with the next look."""
    library = Library()
    library.given[3] = 1
    found = traffic(library)
    found.read([3], begin=False)
    library.count(3, 0, 10)
    library.count(3, 1, 1)
    library.silent = {0, 1}
    assert found.read([3], begin=False) == {3: UNIT}
    library.silent = set()
    assert found.read([3], begin=False) == {3: 11 * UNIT}


def test_another_domain_with_the_same_number_begins_at_nothing() -> None:
    library = Library(numbers=1)
    found = traffic(library)
    found.read([1], begin=True)
    library.count(1, 0, 100)
    assert found.read([1], begin=True) == {1: 100 * UNIT}
    del library.given[1]
    assert found.read([2], begin=True) == {2: 0}


def test_processors_that_do_not_count() -> None:
    """Cache only; nothing at all; a libxenctrl older than the functions."""
    for library in (Library(events=1), Library(events=0), object()):
        assert traffic(library).read([0, 1], begin=True) == {}
