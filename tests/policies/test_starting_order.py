"""In which order the guests of a plan start."""

from domicile.policies.plan import Placement
from domicile.policies.starting_order import starting_order
from domicile.state.model import Reservation, Snapshot
from domicile.topology.model import Cpu, Node, Topology


def host(free_mib: tuple[int, ...], promised: dict[int, int] | None = None) -> Snapshot:
    """Nodes of two CPUs each, the last without."""
    last = len(free_mib) - 1
    nodes = tuple(Node(node, 8192, free) for node, free in enumerate(free_mib))
    cpus = tuple(Cpu(cpu, cpu, cpu // 2, cpu // 2) for cpu in range(2 * last))
    reservations = (Reservation("t", "coming", promised, 1, "pid 1", 0.0),) if promised else ()
    return Snapshot(Topology(nodes, cpus, None), (), 0.0, reservations=reservations)


def at(domain: str, reserve_mib: dict[int, int]) -> Placement:
    return Placement(domain, tuple(reserve_mib), None, reserve_mib, reserve_mib, 1.0)


def order(snapshot: Snapshot, *placements: Placement) -> list[str]:
    return [placements[index].domain for index, _ in starting_order(snapshot, placements)]


def test_any_order_will_do_where_there_is_room() -> None:
    assert order(host((1000, 1000, 0)), at("a", {0: 300}), at("b", {0: 350, 1: 350})) == ["a", "b"]


def test_who_has_less_on_a_node_that_another_fills_starts_after_it() -> None:
    """At first "wide" would have its memory in equal parts, and "bound" none left on its node."""
    wide, bound = at("wide", {0: 400, 1: 300}), at("bound", {1: 700})
    assert order(host((1000, 1000, 0)), wide, bound) == ["bound", "wide"]
    assert order(host((1000, 1000, 0), {0: 500}), wide, bound) == ["bound", "wide"]
    # the node is as full for what is promised to others
    assert order(host((1000, 1000, 0), {1: 700}), wide, at("other", {0: 100})) == ["wide", "other"]


def test_memory_without_cpus_comes_last() -> None:
    far, near = at("far", {0: 200, 2: 500}), at("near", {0: 300})
    assert order(host((500, 500, 1000)), far, near) == ["near", "far"]
