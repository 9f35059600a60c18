"""Xen's command line: read as Xen reads it, written so that it reads the same, the rest untouched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.policies.dom0.command_line import (
    CommandLine,
    Dom0Options,
    MemoryAmount,
    MemoryOption,
    VcpuRange,
    parse_command_line,
)

amounts = st.builds(
    MemoryAmount, st.integers(0, 1 << 30).map(lambda pages: pages * 4096), st.integers(0, 99), st.booleans()
)
maybe = st.none() | amounts
memories = st.builds(MemoryOption, maybe, maybe, maybe).filter(lambda option: str(option) != "")
options = st.builds(
    Dom0Options,
    st.lists(st.integers(0, 300), unique=True, max_size=8).map(tuple),
    st.booleans(),
    st.none() | st.builds(VcpuRange, st.integers(1, 500), st.none() | st.integers(1, 500)),
    st.none() | memories,
    st.booleans(),
)
words = st.from_regex(r"[a-z_]{1,8}(=[!-~]{0,12})?", fullmatch=True).filter(lambda word: "dom0_" not in word)
lines = st.builds(CommandLine, st.lists(words, max_size=6).map(tuple), options)

GIB = 1 << 30


@given(lines)
def test_what_is_written_reads_the_same(line: CommandLine) -> None:
    assert parse_command_line(str(line)) == line


@given(st.lists(words, max_size=6), options, options)
def test_other_words_are_kept_wherever_ours_stand(others: list[str], old: Dom0Options, new: Dom0Options) -> None:
    text = "  ".join([*others[:2], *old.words, *others[2:]])
    assert str(parse_command_line(text).with_dom0(new)).split() == [*others, *new.words]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("dom0_mem=1G", MemoryOption(MemoryAmount(GIB))),
        ("dom0_mem=1048576", MemoryOption(MemoryAmount(GIB))),
        ("dom0_mem=0x400M,max:2g", MemoryOption(MemoryAmount(GIB), most=MemoryAmount(2 * GIB))),
        ("dom0_mem=10%", MemoryOption(MemoryAmount(0, 10))),
        ("dom0_mem=1G+25%", MemoryOption(MemoryAmount(GIB, 25))),
        ("dom0_mem=min:512M,-1G", MemoryOption(MemoryAmount(GIB, less=True), MemoryAmount(GIB // 2))),
        ("dom0_mem=1G,max:1G dom0_mem=2G", MemoryOption(MemoryAmount(2 * GIB), most=MemoryAmount(GIB))),
    ],
)
def test_memory(text: str, found: MemoryOption) -> None:
    assert parse_command_line(text).dom0.memory == found


def test_one_gib_and_a_quarter_of_256_gib_is_65_gib() -> None:
    """The example in docs/misc/xen-command-line.pandoc."""
    assert MemoryAmount(GIB, 25).of_mib(256 * 1024) == 65 * 1024
    assert MemoryAmount(GIB, less=True).of_mib(4096) == 3072


VCPUS = {"4-8": {2: 4, 4: 4, 6: 6, 8: 8, 10: 8}, "3": {8: 3, 2: 3}, "-4": {8: 4, 2: 2}, "2-": {1: 2, 9: 9}, "0": {8: 1}}
"""The table in docs/misc/xen-command-line.pandoc, and the other forms of `parse_dom0_max_vcpus`."""


@pytest.mark.parametrize("text", VCPUS)
def test_vcpus(text: str) -> None:
    found = parse_command_line(f"dom0_max_vcpus={text}").dom0.max_vcpus
    assert found is not None
    assert {cpus: found.of_cpus(cpus) for cpus in VCPUS[text]} == VCPUS[text]


def test_nodes_add_up_and_the_last_word_on_strictness_counts() -> None:
    found = parse_command_line("dom0_nodes=1,relaxed console=com1 dom0_nodes=strict,3,1").dom0
    assert found == Dom0Options(proximity_domains=(1, 3))


PINNING = {
    "dom0_vcpus_pin": True,
    "dom0_vcpus_pin=no": False,
    "no-dom0_vcpus_pin": False,
    "": False,
    "dom0_vcpus_pin=1 no-dom0_vcpus_pin": False,
    "no-dom0_vcpus_pin=off": True,
}


@pytest.mark.parametrize("text", PINNING)
def test_pinning(text: str) -> None:
    assert parse_command_line(text).dom0.vcpus_pin is PINNING[text]


REFUSED = """dom0_nodes=1,lax dom0_nodes= dom0_nodes=09 dom0_mem= dom0_mem=lots dom0_mem=100% dom0_mem=5%+1G
dom0_mem=1G+ dom0_mem=1G, dom0_max_vcpus= dom0_max_vcpus=- dom0_max_vcpus=1-2-3 dom0_vcpus_pin=maybe"""


@pytest.mark.parametrize("word", REFUSED.split())
def test_what_xen_refuses_is_told_and_not_written_again(word: str) -> None:
    found = parse_command_line(f"console=com1 {word} dom0_mem=1G")
    (told,) = found.refused
    assert told.startswith(f"{word}: ")
    assert str(found.with_dom0(Dom0Options())) == "console=com1"
    assert found.dom0 == Dom0Options(memory=MemoryOption(MemoryAmount(GIB)))


FIXED = {
    "dom0_mem=1G": 1024,
    "dom0_mem=1G,max:512M": 512,
    "dom0_mem=1G,min:2G": 2048,
    "dom0_mem=max:768M": 768,
    "dom0_mem=0,max:768M": 768,
    "dom0_mem=min:1G": None,
    "dom0_mem=10%": None,
    "dom0_mem=1G,max:-1G": None,
    "dom0_mem=-1G": None,
}


@pytest.mark.parametrize("text", FIXED)
def test_memory_that_does_not_depend_on_the_host(text: str) -> None:
    found = parse_command_line(text).dom0.memory
    assert found is not None
    assert found.fixed_mib == FIXED[text]


def test_words_are_parted_by_spaces_alone() -> None:
    assert parse_command_line("  a\tb   dom0_mem=1G c ").others == ("a\tb", "c")
