"""The readers of `xl`'s tables: what `printf` printed comes back, and nothing else is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import HostFailed
from domicile.hosts.xen import xl_list, xl_vcpu_list
from domicile.hosts.xen.cpu_list import format_list, parse_list
from domicile.hosts.xen.xl_claims import parse_claims_table
from domicile.hosts.xen.xl_cpupool_list import parse_cpupool_cpus, parse_cpupool_schedulers
from domicile.hosts.xen.xl_list import parse_list_table
from domicile.hosts.xen.xl_vcpu_list import parse_vcpu_table

NAMES = (
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f\x85\u2028"), min_size=1)
    .map(str.strip)
    .filter(lambda name: bool(name) and name.isprintable())
)
HOSTILE_NAMES = st.sampled_from(
    [
        "a 1 256 2 -b---- 5.6",
        "g1                 1   256     2     -b----       5.6 2",
        "x 0 0 0 r-- 1.0 all / all",
        "0-3 all",
    ]
)
DOMIDS = st.integers(0, 32751)
UUIDS = st.uuids().map(str)
LISTS = st.frozensets(st.integers(0, 511)).map(format_list) | st.just("all")
STATES = st.tuples(*(st.sampled_from(pair) for pair in ("r-", "b-", "p-", "s-", "-rscwS?", "d-"))).map("".join)

LIST_HEAD = (
    "Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID   Reason-Code\tSecurity Label"
)


@given(
    name=NAMES | HOSTILE_NAMES,
    domid=DOMIDS,
    memory=st.integers(0, 2**39),
    vcpus=st.integers(0, 512),
    state=STATES,
    time=st.floats(0, 1e9),
    uuid=UUIDS,
    reason=st.sampled_from(["-", "0", "3", "ff"]),
    label=st.sampled_from(["-", "system_u:system_r:domU_t", "a:b"]),
    pool=st.sampled_from(["Pool-0", "a pool with a long name", "-", "numa node 1", "Pool-node0"]),
    nodes=LISTS,
)
def test_xl_list_comes_back(
    name: str,
    domid: int,
    memory: int,
    vcpus: int,
    state: str,
    time: float,
    uuid: str,
    reason: str,
    label: str,
    pool: str,
    nodes: str,
) -> None:
    row = f"{name:<40} {domid:5d} {memory:5d} {vcpus:5d}     {state}  {time:8.1f}"
    row += f" {uuid} {reason:>8} {label:>16}{pool:>16} {nodes}"
    found = parse_list_table(f"{LIST_HEAD}\n{row}\n", ["Pool-0", pool])
    assert len(found) == 1
    assert (found[0].name, found[0].id, found[0].memory_mib, found[0].online_vcpus) == (name, domid, memory, vcpus)
    assert (found[0].uuid, found[0].cpupool, found[0].nodes) == (uuid, pool, nodes)
    assert (found[0].paused, found[0].shut_down, found[0].dying) == (state[2] == "p", state[3] == "s", state[5] == "d")


@given(
    name=NAMES | HOSTILE_NAMES,
    domid=DOMIDS,
    vcpu=st.integers(0, 511),
    cpu=st.none() | st.integers(0, 511),
    time=st.floats(0, 1e9),
    hard=LISTS,
    soft=LISTS,
)
def test_vcpu_list_comes_back(
    name: str, domid: int, vcpu: int, cpu: int | None, time: float, hard: str, soft: str
) -> None:
    where = f"{'-':>5} {'-':>3}-p " if cpu is None else f"{cpu:5d} {'r':>3}-- "
    row = f"{name:<32} {domid:5d} {vcpu:5d}{where}{time:9.1f}  {hard} / {soft}"
    [found] = parse_vcpu_table(f"Name  ID  VCPU\n{row}\n")
    assert (found.domain, found.vcpu, found.cpu, found.hard, found.soft) == (domid, vcpu, cpu, hard, soft)
    assert found.running == (cpu is not None)
    assert found.time_s == pytest.approx(time, abs=0.06)


@given(name=NAMES | HOSTILE_NAMES, domid=DOMIDS, claimed=st.integers(0, 2**30))
def test_claims_come_back(name: str, domid: int, claimed: int) -> None:
    row = f"{name:<40} {domid:5d} {999:5d} {2:5d}     --p---  {1.5:8.1f} {claimed:5d}"
    expected = {domid: claimed} if claimed else {}
    assert parse_claims_table(f"Name ID Mem VCPUs\tState\tTime(s)  Claimed\n{row}\n") == expected


@given(
    pools=st.dictionaries(
        NAMES | st.sampled_from(["Pool-0", "a name of 19 chars1", "pool of socket number 1", "x 1,2"]),
        st.frozensets(st.integers(0, 511)),
        min_size=1,
        max_size=5,
    )
)
def test_cpupools_come_back(pools: dict[str, frozenset[int]]) -> None:
    cpus = "".join(f"{name:<19}{','.join(map(str, sorted(ids)))}\n" for name, ids in pools.items())
    kinds = "".join(f"{name:<19}{len(ids):3d} {'credit2':>9}       y       {3:4d}\n" for name, ids in pools.items())
    try:
        schedulers = parse_cpupool_schedulers("Name               CPUs   Sched     Active   Domain count\n" + kinds)
    except HostFailed:
        pytest.fail("the table of schedulers was not read")
    for name in pools:
        # a long name that ends in a digit cannot be told from the count that it is glued to
        if len(name) < 17:
            assert schedulers[name] == "credit2"
    assert parse_cpupool_cpus("Name               CPU list\n" + cpus, list(pools)) == pools


def test_a_pool_without_cpus_and_one_with_a_long_name() -> None:
    text = "Name               CPU list\nPool-0             0,1\nempty              \na-name-longer-than-that4,5\n"
    assert parse_cpupool_cpus(text) == {
        "Pool-0": frozenset({0, 1}),
        "empty": frozenset(),
        "a-name-longer-than-that": frozenset({4, 5}),
    }


@given(st.frozensets(st.integers(0, 600)))
def test_lists_come_back(ids: frozenset[int]) -> None:
    assert parse_list(format_list(ids), range(10)) == ids


@pytest.mark.parametrize("text", ["", "1-", "3-1", "1,,2", "-1", "0-99999999999", "1 2", "²", "all,1", "0x1"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        parse_list(text, range(8))


def test_all_is_everything() -> None:
    assert parse_list("all", {1, 4}) == {1, 4}
    assert parse_list("any cpu", {1, 4}) == {1, 4}


@given(st.text())
def test_garbled_tables_are_told(text: str) -> None:
    readers = (parse_vcpu_table, parse_claims_table, parse_cpupool_cpus, parse_cpupool_schedulers)
    for read in (*readers, lambda table: parse_list_table(table, ["Pool-0"])):
        for table in (text, f"Name\n{text}"):
            problem = ""
            try:
                read(table)
            except HostFailed as error:
                problem = str(error)
            assert ("makes no sense" in problem) == bool(problem)
            assert "\n" not in problem


def test_a_huge_line_is_told_briefly() -> None:
    with pytest.raises(HostFailed) as caught:
        parse_vcpu_table("Name ID\n" + "a 1 " * 500_000)
    assert len(str(caught.value)) < 300


LIST_LINE = (
    "web server                                   7   256     2     -b----      12.3 "
    "11111111-0000-4000-8000-000000000007        -                -          Pool-0 0-1,3"
)
VCPU_LINE = "web server                           7     1    12   -b-      12.3  0-3,8 / all"
PIECES = ["", " ", "  ", "\t", "-", "0", "x", ".", "/", "none", "any cpu", "Pool-0", "\x85", "\u0663", "9" * 6]


@st.composite
def nearly(draw: st.DrawFn, line: str) -> str:
    """A row with some stretches of it replaced by something else."""
    for _ in range(draw(st.integers(0, 2))):
        begin = draw(st.integers(0, len(line)))
        end = draw(st.integers(begin, min(begin + 4, len(line))))
        line = line[:begin] + draw(st.sampled_from(PIECES)) + line[end:]
    return line


@given(st.lists(nearly(VCPU_LINE) | nearly(VCPU_LINE.replace(" server", "-server")) | st.just(""), max_size=4))
def test_reading_a_table_at_once_finds_what_the_expression_finds(rows: list[str]) -> None:
    read = [xl_vcpu_list.ROW.fullmatch(line) for row in rows for line in row.split("\n") if line and not line.isspace()]
    if None in read:
        with pytest.raises(HostFailed, match="makes no sense"):
            parse_vcpu_table("\n".join(["Name", *rows]))
    else:
        found = parse_vcpu_table("\n".join(["Name", *rows]))
        assert found == [xl_vcpu_list._row(match) for match in read if match is not None]


@given(nearly(LIST_LINE), st.sampled_from([["Pool-0"], ["Pool-0", "- Pool-0"], ["x"]]))
def test_splitting_a_domain_finds_what_the_expression_finds(line: str, pools: list[str]) -> None:
    found, match = xl_list._usual_row(line, frozenset(pools)), xl_list.ROW.fullmatch(line)
    if any(" " in pool for pool in pools):
        found = None
    assert found is None or (match is not None and found == xl_list._row(match, pools))


def test_usual_rows_are_read_the_quick_way() -> None:
    ((domain, *_, rest),) = xl_vcpu_list.USUAL.findall(VCPU_LINE.replace(" server", "-server"))
    assert (domain, rest) == ("7", "")
    assert xl_list._usual_row(LIST_LINE, frozenset({"Pool-0"})) is not None
