"""Machine files: what is meant is read, what cannot be is refused with file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.lab.machine import DeviceKind, Machine, load_machine, preset_names, read_machine

TWO_NODES = """
[[node]]
cpus = 2
memory_mib = 2048
[[node]]
cpus = 4
memory_mib = 1024
"""


def read(text: str) -> Machine:
    return read_machine(text.encode(), "m.toml")


def test_reads_what_is_there_and_fills_in_the_rest() -> None:
    machine = read(f"""
        description = "two"
        distances = [[10, 21], [31, 10]]
        {TWO_NODES}
        [[device]]
        kind = "rng"
        node = 1
        [xen]
        command_line = "sched=credit"
        [dom0]
        memory_mib = 512
    """)
    assert [(node.cpus, node.memory_mib) for node in machine.nodes] == [(2, 2048), (4, 1024)]
    assert machine.distances == ((10, 21), (31, 10))
    assert [(device.kind, device.node) for device in machine.devices] == [(DeviceKind.RNG, 1)]
    assert (machine.xen.command_line, machine.dom0.memory_mib, machine.dom0.vcpus) == ("sched=credit", 512, None)
    assert (machine.cpus, machine.memory_mib) == (6, 3072)
    assert [list(machine.cpus_of(node)) for node in (0, 1)] == [[0, 1], [2, 3, 4, 5]]


def test_the_key_covers_what_the_machine_is_and_not_what_it_is_called() -> None:
    machine = read(TWO_NODES)
    assert read(f'description = "other"{TWO_NODES}').digest == machine.digest
    assert read(f'{TWO_NODES}[xen]\ncommand_line = "sched=credit"').digest != machine.digest


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("", "", "missing required field `node`"),
        ("node = []", "node", "0 nodes"),
        ("[[node]]\ncpus = 2", "node[0]", "missing required field `memory_mib`"),
        (
            f"{TWO_NODES}[[node]]\ncpus = 2\nmemory_mib = 1024\nmemory = 3",
            "node[2].memory",
            "did you mean 'memory_mib'?",
        ),
        (f"colour = 1{TWO_NODES}", "colour", "no such key; there are"),
        ("[[node]]\ncpus = 0\nmemory_mib = 1024", "node[0].cpus", "0; a node has 1 to 128 CPUs"),
        ("[[node]]\ncpus = 129\nmemory_mib = 1024", "node[0].cpus", "129"),
        ("[[node]]\ncpus = -1\nmemory_mib = 1024", "node[0].cpus", "-1"),
        ('[[node]]\ncpus = "2"\nmemory_mib = 1024', "node[0].cpus", "Expected `int`, got `str`"),
        ("[[node]]\ncpus = 2\nmemory_mib = 256", "node[0].memory_mib", "256; at least 512"),
        (f"{TWO_NODES}[[node]]\ncpus = 2\nmemory_mib = 1000", "node[2].memory_mib", "in steps of 128"),
        (TWO_NODES + "[[node]]\ncpus = 123\nmemory_mib = 1024", "node", "129 CPUs in all"),
        (
            f"{TWO_NODES}proximity_domain = 0\n",
            "node.proximity_domain",
            "0, 0; the nodes together have 0 to 1, each once",
        ),
        (f"distances = [[10, 20]]{TWO_NODES}", "distances", "not 2 x 2"),
        (f"distances = [[10, 20], [20, 11]]{TWO_NODES}", "distances", "a node is 11 from itself"),
        (f"distances = [[10, 10], [20, 10]]{TWO_NODES}", "distances", "as near as the node itself"),
        (f"distances = [[10, 256], [20, 10]]{TWO_NODES}", "distances", "256 is no distance"),
        (f"{TWO_NODES}[dom0]\nmemory_mib = 100", "dom0.memory_mib", "Dom0 needs 384 MiB"),
        (f"{TWO_NODES}[dom0]\nmemory_mib = 3000", "dom0.memory_mib", "more than the machine's 3072 MiB"),
        (f"{TWO_NODES}[dom0]\nvcpus = 7", "dom0.vcpus", "1 to 6"),
        (f'{TWO_NODES}[[device]]\nkind = "rng"\nnode = 2', "device[0].node", "nodes 0 to 1"),
        (f'{TWO_NODES}[[device]]\nkind = "nvme"\nnode = 0', "device[0].kind", "Invalid enum value 'nvme'"),
        (f'{TWO_NODES}[xen]\ncommand_line = "a\\u0000b"', "xen.command_line", "characters"),
        (f'{TWO_NODES}[dom0]\ncommand_line = "a\\nb"', "dom0.command_line", "characters"),
        ("[[node]", "", "not TOML"),
        ("a = 1\na = 2", "", "not TOML"),
    ],
)
def test_refuses_with_file_and_key(text: str, place: str, problem: str) -> None:
    with pytest.raises(BadInput) as refused:
        read(text)
    assert refused.value.source == "m.toml"
    assert refused.value.place == place
    assert problem in refused.value.problem
    assert "\n" not in str(refused.value)


def test_too_many_devices_for_a_node() -> None:
    device = '[[device]]\nkind = "rng"\nnode = 1\n'
    read(TWO_NODES + device * 16)
    with pytest.raises(BadInput, match=r"more than 16 devices on node 1"):
        read(TWO_NODES + device * 17)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_machine_or_refused(text: bytes) -> None:
    try:
        machine = read_machine(text, "m.toml")
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert machine.nodes


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


def toml(value: object) -> str:
    match value:
        case None:
            return '""'
        case bool():
            return str(value).lower()
        case list():
            return "[" + ", ".join(toml(item) for item in value) + "]"
        case str():
            return '"' + "".join(f"\\U{ord(c):08x}" if not 0xD800 <= ord(c) < 0xE000 else "?" for c in value) + '"'
        case _:
            return str(value)


@given(values, values, values, values, values)
def test_any_values_are_a_machine_or_refused(
    cpus: object, memory: object, distances: object, device: object, dom0: object
) -> None:
    text = f"""
        distances = {toml(distances)}
        [[node]]
        cpus = {toml(cpus)}
        memory_mib = {toml(memory)}
        [[device]]
        kind = "rng"
        node = {toml(device)}
        [dom0]
        memory_mib = {toml(dom0)}
    """
    try:
        machine = read(text)
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert machine.dom0.memory_mib < machine.memory_mib


def test_every_preset_is_a_machine() -> None:
    assert {"4node", "4node-pci", "4node-credit", "2node"} <= set(preset_names())
    for name in preset_names():
        assert load_machine(name).description


def test_no_such_file_names_the_presets(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no such machine file, and no preset; presets are .*4node"):
        load_machine(str(tmp_path / "none.toml"))
    with pytest.raises(BadInput):
        load_machine("a\0b")
    with pytest.raises(BadInput):
        load_machine(str(tmp_path))


def test_a_file_is_read_and_named(tmp_path: Path) -> None:
    file = tmp_path / "my machine.toml"
    file.write_text(TWO_NODES)
    assert load_machine(str(file)).cpus == 6
    file.write_text("node = 3")
    with pytest.raises(BadInput) as refused:
        load_machine(str(file))
    assert str(refused.value).startswith(f"{file}: node: ")
