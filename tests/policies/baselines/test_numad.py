"""numad's advice against what numad.c itself advises, and as a plan."""

from __future__ import annotations

import pytest
from small_hosts import guest, host, resident

from domicile.policies.baselines.numad import NumadNode, advise, cpus_free, cpus_total, place

Recorded = tuple[int, int, tuple[tuple[int, int, int, int], ...], tuple[tuple[int, ...], ...], tuple[int, ...]]

RECORDED: tuple[Recorded, ...] = (
    (
        1200,
        30000,
        ((4000, 1776, 400, 123), (16000, 16000, 400, 200), (16000, 9593, 400, 113), (16000, 6867, 400, 400)),
        ((10, 20, 22, 16), (20, 10, 16, 31), (22, 16, 10, 16), (16, 31, 16, 10)),
        (0, 1, 2, 3),
    ),
    (
        400,
        8000,
        ((64000, 4114, 800, 633), (64000, 80, 800, 800), (64000, 64000, 800, 400)),
        ((10, 16, 31), (16, 10, 31), (31, 31, 10)),
        (2,),
    ),
    (
        2400,
        30000,
        ((64000, 125, 1600, 800), (64000, 32000, 1600, 1600), (64000, 29897, 1600, 1600), (64000, 32000, 1600, 800)),
        ((10, 21, 22, 31), (21, 10, 21, 16), (22, 21, 10, 16), (31, 16, 16, 10)),
        (1, 3),
    ),
    (
        200,
        1024,
        ((8000, 8000, 400, 400), (16000, 8000, 400, 400), (16000, 174, 400, 118), (8000, 5394, 400, 200)),
        ((10, 21, 22, 16), (21, 10, 21, 22), (22, 21, 10, 21), (16, 22, 21, 10)),
        (0,),
    ),
    (
        1200,
        4096,
        ((4000, 199, 960, 960), (64000, 64000, 960, 68), (64000, 39369, 960, 480), (64000, 23829, 960, 72)),
        ((10, 16, 20, 31), (16, 10, 22, 21), (20, 22, 10, 31), (31, 21, 31, 10)),
        (0, 2),
    ),
    (
        400,
        12000,
        ((16000, 8000, 800, 87), (16000, 16000, 1600, 1057), (16000, 2401, 800, 400)),
        ((10, 21, 21), (21, 10, 31), (21, 31, 10)),
        (1,),
    ),
    (2400, 30000, ((16000, 8000, 960, 651), (64000, 64000, 960, 960)), ((10, 21), (21, 10)), (0, 1)),
    (
        400,
        30000,
        ((16000, 8000, 400, 200), (16000, 58, 400, 400), (16000, 14750, 400, 200)),
        ((10, 20, 31), (20, 10, 22), (31, 22, 10)),
        (0, 1, 2),
    ),
    (100, 256, ((16000, 8000, 800, 400), (16000, 16000, 800, 174)), ((10, 16), (16, 10)), (1,)),
    (
        1200,
        8000,
        ((16000, 35, 800, 400), (16000, 16000, 200, 200), (16000, 8000, 800, 400), (8000, 3757, 800, 800)),
        ((10, 16, 20, 16), (16, 10, 22, 20), (20, 22, 10, 21), (16, 20, 21, 10)),
        (0, 2, 3),
    ),
    (
        100,
        1024,
        ((16000, 16000, 960, 960), (16000, 131, 960, 960), (16000, 46, 960, 916), (16000, 1451, 960, 622)),
        ((10, 31, 16, 20), (31, 10, 16, 16), (16, 16, 10, 16), (20, 16, 16, 10)),
        (0,),
    ),
    (400, 12000, ((16000, 10185, 800, 400), (8000, 1322, 960, 185)), ((10, 22), (22, 10)), (0, 1)),
    (
        2400,
        12000,
        ((16000, 16000, 960, 960), (16000, 166, 960, 960), (16000, 16000, 800, 350), (4000, 4000, 960, 14)),
        ((10, 31, 20, 22), (31, 10, 21, 31), (20, 21, 10, 20), (22, 31, 20, 10)),
        (0, 1, 2, 3),
    ),
    (200, 4096, ((64000, 64000, 800, 476), (64000, 159, 200, 156)), ((10, 21), (21, 10)), (0,)),
    (
        1200,
        12000,
        ((4000, 1082, 960, 960), (16000, 9503, 960, 480), (64000, 32000, 960, 960), (64000, 20, 960, 235)),
        ((10, 16, 20, 22), (16, 10, 20, 20), (20, 20, 10, 21), (22, 20, 21, 10)),
        (0, 1, 2),
    ),
    (
        2400,
        30000,
        ((8000, 8000, 400, 200), (8000, 159, 400, 81), (8000, 3693, 200, 163)),
        ((10, 31, 16), (31, 10, 16), (16, 16, 10)),
        (0, 1, 2),
    ),
    (
        800,
        8000,
        ((16000, 8000, 960, 802), (16000, 16000, 960, 493), (16000, 8000, 960, 960)),
        ((10, 20, 21), (20, 10, 22), (21, 22, 10)),
        (0, 2),
    ),
    (
        800,
        8000,
        ((16000, 16000, 960, 456), (16000, 8000, 960, 960), (16000, 151, 960, 960)),
        ((10, 20, 20), (20, 10, 20), (20, 20, 10)),
        (0, 1),
    ),
)
"""Hundredths of CPUs and MB asked for; by node: MB in all and free, hundredths of CPUs in all and free; distances; and
the nodes that `pick_numa_nodes` of numad.c 20160428 (the same as of 20150602) gave for it, run for this test."""


@pytest.mark.parametrize(("cpus", "mbs", "nodes", "distances", "advised"), RECORDED)
def test_as_numad_itself(
    cpus: int,
    mbs: int,
    nodes: tuple[tuple[int, int, int, int], ...],
    distances: tuple[tuple[int, ...], ...],
    advised: tuple[int, ...],
) -> None:
    seen = [NumadNode(*figures, row) for figures, row in zip(nodes, distances, strict=True)]
    assert tuple(sorted(advise(seen, cpus, mbs).nodes)) == advised


def test_where_nothing_is_asked_for_it_is_the_first_node() -> None:
    node = NumadNode(1000, 500, 400, 400, (10, 20))
    other = NumadNode(1000, 900, 400, 400, (20, 10))
    assert advise([node, other], 0, 0).nodes == (0,)


def test_a_first_node_without_cpus_or_memory() -> None:
    bare = NumadNode(0, 0, 0, 0, (10, 20))
    assert advise([bare, NumadNode(1000, 900, 400, 400, (20, 10))], 100, 100).nodes == (1, 0)


def test_second_threads_count_a_fifth() -> None:
    """numad(8), -t: 20 percent of a core; 16 CPUs of 8 cores are 8 cores and 8 threads."""
    assert cpus_total(16, 2) == 960
    assert cpus_total(16, 1) == 1600
    assert cpus_free(16.0, 16, 2) == 960
    assert cpus_free(10.0, 16, 2) == 360
    assert cpus_free(4.0, 16, 2) == 0
    assert cpus_free(4.0, 16, 1) == 400


def test_as_a_plan_it_avoids_busy_nodes_and_knows_the_load() -> None:
    on = host(4000, 4000, domains=(resident("db", 4, [0], count=2),))
    assert place(on, [guest(2, 500)]).placements[0].nodes == (1,)
    idle = {"db": 0.0, "Domain-0": 0.0}
    assert place(on, [guest(2, 500)], load=idle).placements[0].nodes == (0,)
    assert place(host(4000, 4000), [guest(2, 5000)]).placements[0].nodes == (0, 1)
    assert "advises nodes 1" in place(on, [guest(2, 500)]).placements[0].reasons[0]


def test_it_takes_a_second_node_for_the_margin_alone() -> None:
    """100 MB are to spare on each node but the last one."""
    on = host(1000, 4000, 1000, domains=(resident("db", 4, [1], count=3),))
    assert place(on, [guest(1, 850)]).placements[0].nodes == (0,)
    assert len(place(on, [guest(1, 950)]).placements[0].nodes) == 2
