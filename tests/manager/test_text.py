"""Sets and figures for people."""

from domicile.manager.text import mib_by_node, pages_by_node


def test_memory() -> None:
    assert mib_by_node({2: 1, 0: 256, 1: 0}) == "node 0: 256 MiB, node 2: 1 MiB"
    assert pages_by_node({0: 65536, 1: 3, 2: 0}) == "node 0: 256 MiB, node 1: 3 pages"
    assert mib_by_node({}) == pages_by_node({}) == "no memory"
