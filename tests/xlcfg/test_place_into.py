"""A placement written into a config: little, marked, the same however often, and nothing against the administrator."""

from __future__ import annotations

import pytest

from domicile.errors import Refused
from domicile.policies.plan import Placement
from domicile.state.model import Vnode
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node
from domicile.xlcfg.guest import place_into, read_as_started, read_guest
from domicile.xlcfg.syntax import parse

HOST = checked(
    source="test",
    nodes=[Node(node, 4096) for node in range(5)],
    cpus=[Cpu(cpu, cpu, cpu // 2, cpu // 2) for cpu in range(8)],
)
CONFIG = "name = 'g'  # mine\nmemory = 256\nvcpus = 2\n"


def placed(text: str, nodes: tuple[int, ...], *soft: set[int]) -> str:
    placement = Placement(
        domain="g",
        nodes=nodes,
        soft_affinity=tuple(map(frozenset, soft)) if soft else None,
        memory_mib={nodes[0]: 256},
        reserve_mib={nodes[0]: 258},
        predicted_slowdown=1.0,
    )
    return place_into(text, placement, read_guest(parse(text, "g.cfg"), HOST), HOST)


def test_one_set_is_a_string() -> None:
    assert (
        placed(CONFIG, (1,), {2, 3}, {2, 3}) == CONFIG + '# added by domicile: node 1 (cpus_soft)\ncpus_soft = "2-3"\n'
    )


def test_several_sets_are_a_list() -> None:
    text = placed(CONFIG, (0, 1), {0, 1}, {2, 3})
    assert text == CONFIG + '# added by domicile: nodes 0-1 (cpus_soft)\ncpus_soft = ["0-1", "2-3"]\n'


def test_xl_reads_back_what_was_meant() -> None:
    text = placed(CONFIG, (0, 2), {0, 5}, {4, 5}).replace("# added by domicile", "# kept")
    assert read_guest(parse(text, "g.cfg"), HOST).soft_affinity == (frozenset({0, 5}), frozenset({4, 5}))


def test_placing_again_replaces_what_was_added() -> None:
    once = placed(CONFIG, (1,), {2, 3}, {2, 3})
    assert placed(once, (1,), {2, 3}, {2, 3}) == once
    assert placed(once, (3,), {6, 7}, {6, 7}) == placed(CONFIG, (3,), {6, 7}, {6, 7})
    assert placed(once, (3,)) == CONFIG


def test_vcpus_is_added_where_xl_would_drop_affinity_without_it() -> None:
    text = "name = 'g'\nmemory = 256\n"
    note = "# added by domicile: the default; without it xl before 4.22 drops cpus_soft (vcpus)\nvcpus = 1\n"
    assert placed(text, (1,), {2, 3}) == text + '# added by domicile: node 1 (cpus_soft)\ncpus_soft = "2-3"\n' + note
    assert placed(text + "maxvcpus = 1\n", (1,), {2, 3}).endswith('cpus_soft = "2-3"\n')


@pytest.mark.parametrize(
    "settings",
    [
        "cpus_soft = '4-5'\n",
        "cpus_soft = ['4', '5']\n",
        "type = 'hvm'; vnuma = [['pnode=2', 'size=256', 'vcpus=0-1', 'vdistances=10']]\n",
    ],
)
def test_the_administrators_own_placement_stays(settings: str) -> None:
    assert placed(CONFIG + settings, (1,), {2, 3}, {2, 3}) == CONFIG + settings


def test_nothing_is_added_where_scheduling_is_left_to_xen() -> None:
    assert placed(CONFIG, (1,)) == CONFIG


def test_soft_affinity_stays_within_the_hard() -> None:
    text = CONFIG + "cpus = '2,4-7'\n"
    assert placed(text, (1, 2), {2, 3, 4}, {4, 5}) == text + (
        '# added by domicile: nodes 1-2 (cpus_soft)\ncpus_soft = ["2,4", "4-5"]\n'
    )


@pytest.mark.parametrize(
    ("nodes", "soft"),
    [((4,), {0}), ((1,), {0, 2}), ((0, 1), {2, 3}), ((0,), {0, 1})],
)
def test_what_soft_affinity_cannot_bring_about(nodes: tuple[int, ...], soft: set[int]) -> None:
    hard = "cpus = '2-7'\n" if nodes == (0,) else ""
    with pytest.raises(Refused, match="its soft affinity would not bring its memory to"):
        placed(CONFIG + hard, nodes, soft, soft)


def test_the_end_of_the_file_is_kept_as_it_was() -> None:
    text = CONFIG.rstrip("\n")
    assert placed(text, (1,), {2, 3}, {2, 3}) == text + '\n# added by domicile: node 1 (cpus_soft)\ncpus_soft = "2-3"'
    assert placed(placed(text, (1,), {2, 3}, {2, 3}), (1,)) == text


VNODES = (Vnode(0, 128, frozenset({0}), (10, 16)), Vnode(1, 128, frozenset({1}), (16, 10)))
VNUMA = (
    "# added by domicile: 2 virtual nodes on nodes 0-1 (vnuma)\n"
    'vnuma = [["pnode=0", "size=128", "vcpus=0", "vdistances=10,16"], '
    '["pnode=1", "size=128", "vcpus=1", "vdistances=16,10"]]\n'
    '# added by domicile: nodes 0-1 (cpus_soft)\ncpus_soft = ["0-1", "2-3"]\n'
)


def with_vnodes(text: str, vnodes: tuple[Vnode, ...] = VNODES) -> str:
    placement = Placement(
        domain="g",
        nodes=(0, 1),
        soft_affinity=(frozenset({0, 1}), frozenset({2, 3})),
        memory_mib={0: 128, 1: 128},
        reserve_mib={0: 130, 1: 130},
        predicted_slowdown=1.0,
        vnodes=vnodes,
    )
    return place_into(text, placement, read_guest(parse(text, "g.cfg"), HOST), HOST)


def test_virtual_nodes_are_written_and_read_back() -> None:
    text = with_vnodes(f"type = 'hvm'\n{CONFIG}")
    assert text == f"type = 'hvm'\n{CONFIG}{VNUMA}"
    assert read_as_started(parse(text, "g.cfg"), HOST).vnodes == VNODES
    assert with_vnodes(text) == text


def test_the_administrators_virtual_nodes_get_their_pnodes() -> None:
    loose = "vnuma = [['size=128', 'vcpus=0', 'vdistances=10,16'], ['size=128', 'vcpus=1', 'vdistances=16,10']]\n"
    text = f"type = 'hvm'\n{CONFIG}{loose}"
    assert with_vnodes(text) == text + VNUMA
    with pytest.raises(Refused, match="its virtual nodes were given no pnodes"):
        with_vnodes(text, ())


def test_those_that_name_theirs_stay_as_they_are() -> None:
    text = f"type = 'hvm'\n{CONFIG}" + VNUMA.splitlines()[1].replace("pnode=1", "pnode=3") + "\n"
    assert with_vnodes(text, (VNODES[0], Vnode(3, 128, frozenset({1}), (16, 10)))) == text


def test_maxvcpus_is_added_where_xl_wants_it() -> None:
    text = "name = 'g'; type = 'hvm'; memory = 256; vcpus = 10\n"
    request = read_guest(parse(text, "g.cfg"), HOST)
    vnodes = (Vnode(0, 128, frozenset(range(5)), (10, 16)), Vnode(1, 128, frozenset(range(5, 10)), (16, 10)))
    soft = (frozenset({0, 1}),) * 5 + (frozenset({2, 3}),) * 5
    placement = Placement("g", (0, 1), soft, {0: 128, 1: 128}, {0: 130, 1: 130}, 1.0, vnodes=vnodes)
    written = place_into(text, placement, request, HOST)
    assert "\nmaxvcpus = 10\n" in written
    assert read_as_started(parse(written, "g.cfg"), HOST).vnodes == vnodes
