"""Scenario files: those that come with domicile, and those that cannot be meant."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.lab.guests import Load
from domicile.lab.measure.run import MeasuredMachine, require_fitting
from domicile.lab.measure.scenario import Place, load_scenario, read_scenario, scenario_names

GUEST = '[[guest]]\nname = "g"\n'


def test_those_that_come_along_can_be_read() -> None:
    names = scenario_names()
    assert {"one-busy", "one-busy-credit", "three-busy", "three-busy-credit", "one-busy-domicile"} <= set(names)
    for name in names:
        scenario = load_scenario(name)
        assert scenario.title
        assert all(guest.xl_config() for guest in scenario.guests)
        assert scenario.machine == ("4node-credit" if name.endswith("-credit") else "4node")


def test_defaults() -> None:
    scenario = read_scenario(GUEST.encode(), "s")
    assert scenario.guests[0].load == Load(2, 128)
    assert scenario.guests[0].place is Place.XEN
    assert "\ncpus" not in scenario.guests[0].xl_config()


def test_an_idle_guest_touches_nothing() -> None:
    assert read_scenario((GUEST + "busy = 0\n").encode(), "s").guests[0].load == Load()


def test_a_pinned_guest_has_its_memory_where_told() -> None:
    text = GUEST + 'place = "pinned"\nnode = 1\n'
    guest = read_scenario(text.encode(), "s").guests[0]
    assert 'cpus_soft = "nodes:1"' in guest.xl_config()
    assert guest.moves_to is None
    guest = read_scenario((text + "memory_node = 2\n").encode(), "s").guests[0]
    assert 'cpus = "nodes:2"' in guest.xl_config()
    assert 'cpus_soft = "nodes:2"' in guest.xl_config()
    assert guest.moves_to == 1


def test_a_small_guest_touches_what_its_kernel_leaves() -> None:
    small, usual = (
        read_scenario(f"{GUEST}memory_mib = {mib}\n".encode(), "s").guests[0].load.touch_mib for mib in (128, 256)
    )
    assert small < 52  # with which a guest of 128 MiB ran out of memory
    assert usual == 128


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "guest"),
        ("guest = 3", "guest"),
        ("[[guest]]", "guest[0]"),
        (GUEST + GUEST, "guest[1].name"),
        ("warm_up_s = -1\n" + GUEST, "warm_up_s"),
        ("window_s = 0\n" + GUEST, "window_s"),
        ("window_s = nan\n" + GUEST, "window_s"),
        ("windows = 0\n" + GUEST, "windows"),
        ('machine = ""\n' + GUEST, "machine"),
        ('title = "a\\u001b[2J"\n' + GUEST, "title"),
        ("speed = 3\n" + GUEST, "speed"),
        ('[[guest]]\nname = "a b"', "guest[0].name"),
        ('[[guest]]\nname = "-rf"', "guest[0].name"),
        ('[[guest]]\nname = "Domain-0"', "guest[0].name"),
        (GUEST + 'type = "lxc"', "guest[0].type"),
        (GUEST + "vcpus = 0", "guest[0].vcpus"),
        (GUEST + "memory_mib = 1", "guest[0].memory_mib"),
        (GUEST + "busy = 3", "guest[0].busy"),
        (GUEST + "touch_mib = 250", "guest[0].touch_mib"),
        (GUEST + "memory_mib = 128\ntouch_mib = 64", "guest[0].touch_mib"),
        (GUEST + 'place = "pinned"', "guest[0].node"),
        (GUEST + "node = 1", "guest[0].node"),
        (GUEST + "memory_node = 1", "guest[0].memory_node"),
        (GUEST + 'place = "pinned"\nnode = 64', "guest[0].node"),
        (GUEST + "config = { memory = 3 }", "guest[0].config"),
        (GUEST + 'config = { "cpus\\n" = 3 }', "guest[0].config"),
        (GUEST + "config = { cap = 1.5 }", "guest[0].config.cap"),
        (GUEST + "config = { cpus = 'a\"b' }", "guest[0].config.cpus"),
        (GUEST + "config = { cpus = { a = 1 } }", "guest[0].config.cpus"),
        (GUEST + "config = { vnuma = [1979-05-27] }", "guest[0].config.vnuma"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_place(text: str, place: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_scenario(text.encode(), "s.toml")
    assert refused.value.source == "s.toml"
    assert place in f"{refused.value.place} {refused.value.problem}"
    assert "\n" not in str(refused.value)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_any_bytes_are_a_scenario_or_bad_input(text: bytes) -> None:
    with pytest.raises(BadInput):
        read_scenario(text, "s.toml")


@given(st.data())
def test_a_scenario_cut_short_or_garbled(data: st.DataObject) -> None:
    whole = b'title = "t"\nwarm_up_s = 5\n[[guest]]\nname = "g"\ntype = "pv"\nconfig = { cpus = [1, "2"] }\n'
    at = data.draw(st.integers(0, len(whole)))
    text = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + data.draw(st.integers(0, 60)) :]
    with contextlib.suppress(BadInput):
        assert read_scenario(text, "s.toml").guests[0].xl_config()


def test_files_that_are_not_there_or_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no such scenario file, and no preset; presets are .*one-busy"):
        load_scenario(str(tmp_path / "none.toml"))
    with pytest.raises(BadInput):
        load_scenario(str(tmp_path))
    with pytest.raises(BadInput):
        load_scenario("a\0b")
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(BadInput, match="no scenario"):
        load_scenario(str(huge))


def test_a_machine_file_is_looked_for_beside_the_scenario(tmp_path: Path) -> None:
    scenario = tmp_path / "s.toml"
    scenario.write_text('machine = "mine.toml"\n' + GUEST)
    assert load_scenario(str(scenario)).machine == "mine.toml"
    (tmp_path / "mine.toml").touch()
    assert load_scenario(str(scenario)).machine == str(tmp_path / "mine.toml")


def test_a_node_that_the_machine_has_not() -> None:
    machine = MeasuredMachine("2node", (2, 2), (512, 512))
    assert machine.node_of_cpu == (0, 0, 1, 1)
    require_fitting(load_scenario("one-busy"), machine)
    with pytest.raises(BadInput, match=r"2node: no node 2 \(0 to 1\), and busy wants it"):
        require_fitting(load_scenario("wrong-node"), machine)
