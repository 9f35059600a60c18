"""`Direct`: the tables it writes are those that `xl` would print, from libraries that a test stands in for."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.hosts.xen.cpu_list import parse_list
from domicile.hosts.xen.dom0.agent.direct import Direct
from domicile.hosts.xen.dom0.agent.id_sets import set_text
from domicile.hosts.xen.xl_cpupool_list import parse_cpupool_cpus, parse_cpupool_schedulers
from domicile.hosts.xen.xl_list import parse_list_table
from domicile.hosts.xen.xl_vcpu_list import parse_vcpu_table

INFO = """\
free_memory            : 7082
outstanding_claims     : 0
cpu_topology           :
cpu:    core    socket     node
  0:       0        0        0
numa_info              :
node:    memsize    memfree    distances
   0:      2048       1780      10,16
   2:      2048          0      16,10
xen_major              : 4
"""


def domain(domid: int, **changes: Any) -> dict[str, Any]:
    flags = dict.fromkeys(("dying", "crashed", "shutdown", "paused", "blocked", "running", "hvm"), 0)
    return {
        **flags,
        "domid": domid,
        "online_vcpus": 2,
        "max_vcpu_id": 1,
        "mem_kb": 262144 + 1023,
        "cpu_time": 4_868_915_005,
        "shutdown_reason": 255,
        "cpupool": 0,
        "handle": [domid, *range(1, 16)],
        **changes,
    }


class Xc:
    """`xen.lowlevel.xc`."""

    def __init__(self, domains: list[dict[str, Any]], cpumap: list[int]) -> None:
        self.domains = domains
        self.cpumap = cpumap

    def topologyinfo(self) -> dict[str, Any]:
        return {"cpu_to_core": [0, 1, 0, 1]}

    def numainfo(self) -> dict[str, Any]:
        return {"node_memsize": [2048, 17592186044415, 2048], "node_memfree": [1000, 17592186044415, 55]}

    def physinfo(self) -> dict[str, Any]:
        return {"free_memory": 1055 * 1024}

    def cpupool_getinfo(self) -> list[dict[str, Any]]:
        return [
            {"cpupool": 0, "sched": 6, "n_dom": 2, "cpulist": [0, 1, 2]},
            {"cpupool": 1, "sched": 5, "n_dom": 0, "cpulist": []},
        ]

    def domain_getinfo(self, first: int, most: int) -> list[dict[str, Any]]:
        return [dict(found) for found in self.domains if found["domid"] >= first][:most]

    def vcpu_getinfo(self, domid: int, vcpu: int) -> dict[str, Any]:
        if domid == 9:
            raise RuntimeError("xc.Error: no such domain")
        return {
            "online": 1 - vcpu,
            "blocked": int(domid != 0),
            "running": int(domid == 0),
            "cpu_time": 1_500_000_000,
            "cpu": 3,
            "cpumap": self.cpumap,
        }

    def getcpuinfo(self, most: int) -> list[dict[str, Any]]:
        return [{"idletime": 5 + cpu} for cpu in range(min(most, 4))]


class Library:
    """libxenctrl: hard affinity to CPUs 0-2, soft to 1 and 3, nodes 0 and 2, weight 512, cap 50."""

    def __init__(self) -> None:
        self.xc_domain_node_getaffinity = Function([b"\x05"])
        self.xc_vcpu_getaffinity = Function([b"\x07", b"\x0a"])
        self.xc_vcpu_setaffinity = Setter()
        self.xc_sched_credit2_domain_get = Function([(512).to_bytes(2, "little") + (50).to_bytes(2, "little")])


class Function:
    """A function that writes to the beginning of the buffers it is given, as libxenctrl does."""

    def __init__(self, fills: list[bytes]) -> None:
        self.fills = fills
        self.argtypes: list[object] = []

    def __call__(self, handle: object, *arguments: Any) -> int:
        buffers = [argument for argument in arguments if hasattr(argument, "raw")]
        for buffer, fill in zip(buffers, self.fills, strict=True):
            buffer[: len(fill)] = fill
        return 0


class Setter:
    """Remembers the sets that it is given; as libxenctrl does, it fills both buffers with what is there then."""

    def __init__(self) -> None:
        self.given: list[tuple[int, int, int, int, int]] = []
        self.argtypes: list[object] = []

    def __call__(self, handle: object, domid: int, vcpu: int, hard: Any, soft: Any, flags: int) -> int:
        sets = [int.from_bytes(each.raw, "little") for each in (hard, soft)]
        self.given.append((domid, vcpu, sets[0], sets[1], flags))
        hard[:1] = soft[:1] = b"\xff"
        return 0


class Store:
    """`xen.lowlevel.xs`: bytes, None where nothing is."""

    def read(self, transaction: str, path: str) -> bytes | None:
        names = {
            "/local/domain/0/name": b"Domain-0",
            "/local/domain/3/name": b"two words \xff",
            "/local/pool/1/name": b"spare one",
            "/local/domain/0/memory/target": b"524288",
            "/local/domain/3/memory/target": b"253952",
            "/local/domain/3/memory/videoram": b"8192",
            "/local/domain/3/vm": b"/vm/03010203",
            "/vm/03010203/start_time": b"1700000000.25",
        }
        return names.get(path)


def direct(*domains: dict[str, Any], cpumap: list[int] | None = None) -> Direct:
    import ctypes  # noqa: PLC0415

    made = object.__new__(Direct)
    made.xc = Xc(list(domains), [0, 1, 2] if cpumap is None else cpumap)
    made.store, made.library, made.handle = Store(), Library(), 1
    made.buffer = ctypes.create_string_buffer
    made.hard, made.soft = made.buffer(8192), made.buffer(8192)
    return made


def test_the_tables_can_be_read() -> None:
    found = direct(domain(0, running=1), domain(3, blocked=1)).tables(
        lambda: pytest.fail("no claims are to be asked for")
    )
    rows = parse_list_table(found["domains"], ["Pool-0", "spare one"])
    assert [(row.id, row.name, row.memory_mib, row.nodes, row.cpupool) for row in rows] == [
        (0, "Domain-0", 256, "0,2", "Pool-0"),
        (3, "two words \\xff", 256, "0,2", "Pool-0"),
    ]
    assert rows[1].uuid == "03010203-0405-0607-0809-0a0b0c0d0e0f"
    vcpus = parse_vcpu_table(found["vcpus"])
    assert [(vcpu.domain, vcpu.vcpu, vcpu.cpu, vcpu.hard, vcpu.soft) for vcpu in vcpus] == [
        (number, vcpu, None if vcpu else 3, "0-2", "1,3") for number in (0, 3) for vcpu in (0, 1)
    ]
    assert [(vcpu.running, vcpu.blocked) for vcpu in vcpus if vcpu.cpu is not None] == [(True, False), (False, True)]
    pools = parse_cpupool_cpus(found["cpupools"], parse_cpupool_schedulers(found["schedulers"]))
    assert pools == {"Pool-0": {0, 1, 2}, "spare one": set()}
    assert parse_cpupool_schedulers(found["schedulers"]) == {"Pool-0": "credit2", "spare one": "credit"}
    assert found["measured"]["weights"][3] == {"weight": 512, "cap": 50}
    assert found["measured"]["vcpu_time_ns"][3] == [1_500_000_000] * 2
    assert found["measured"]["pcpu_idle_ns"] == [5, 6, 7, 8]
    assert found["measured"]["target_kb"] == {0: 524288, 3: 262144}
    assert found["measured"]["started_at"] == {3: 1700000000.25}
    assert abs(found["taken_at"] - time.time()) < 60


def test_affinity_is_set_and_read_again() -> None:
    """libxenctrl writes as many bytes of a buffer as Xen has CPUs: what is beyond them must not come from before."""
    found = direct(domain(0))
    found.pin(0, 1, "all", "-")
    found.pin(0, 1, "2,4-5", "1")
    library = found.library
    assert isinstance(library, Library)
    everything, some = library.xc_vcpu_setaffinity.given
    assert (everything[2] & 0xFFFF, everything[4]) == (0xFFFF, 1)
    assert some == (0, 1, 0b110100, 0b10, 3)
    info, hard, soft = found.vcpu(0, 1)
    assert (hard, soft) == (0b111, 0b1010)
    assert info["cpumap"] == [0, 1, 2]


def test_claims_are_asked_for_while_something_is_being_built() -> None:
    found = direct(domain(0), domain(3, paused=1)).tables(lambda: ("the table", {3: 100}))
    assert parse_list_table(found["domains"], ["Pool-0"])[1].memory_mib == 356
    assert (found["claims"], found["claimed"]) == ("the table", {3: 100})


def test_a_domain_that_ends_meanwhile_has_no_vcpus() -> None:
    found = direct(domain(0), domain(9)).tables(lambda: ("", {}))
    assert {vcpu.domain for vcpu in parse_vcpu_table(found["vcpus"])} == {0}
    assert parse_list_table(found["domains"], ["Pool-0"])[1].name == "(null)"


def test_states_as_xl_prints_them() -> None:
    states = {
        "r-----": domain(1, running=1),
        "--p---": domain(1, paused=1),
        "---s--": domain(1, shutdown=1, shutdown_reason=0),
        "---sc-": domain(1, crashed=1, shutdown_reason=3),
        "-----d": domain(1, dying=1),
    }
    for state, found in states.items():
        # a domain that shut down for no particular reason has a "-" for the reason
        assert direct(found).rows()[0].state == state


def test_a_library_that_says_something_else_is_not_believed() -> None:
    with pytest.raises(ValueError, match="not what it was taken for"):
        direct(domain(0), cpumap=[0, 1]).tables(lambda: ("", {}))


def test_the_machine_with_fresh_figures() -> None:
    info = direct(domain(0)).refreshed(INFO, 55)
    assert "free_memory            : 1000\n" in info
    assert "outstanding_claims     : 55\n" in info
    assert "   0:      2048       1000      10,16\n   2:      2048         55      16,10\n" in info
    assert info.count("\n") == INFO.count("\n")
    assert "  0:       0        0        0\n" in info


def test_more_claimed_a_moment_ago_than_is_free_now() -> None:
    """The claims are asked for first; a guest being built took its memory since (seen with ten creations at once)."""
    info = direct(domain(0)).refreshed(INFO, 1231)
    assert "free_memory            : 0\n" in info
    assert "outstanding_claims     : 1231\n" in info


@given(st.frozensets(st.integers(0, 40)), st.integers(1, 41))
def test_sets_as_xl_prints_them(ids: frozenset[int], length: int) -> None:
    text = set_text(sum(1 << number for number in ids), length)
    assert parse_list(text, range(length)) == {number for number in ids if number < length}
    assert (text == "all") == (set(range(length)) <= ids)
