"""Sets and figures for people."""

import pytest

from domicile.manager.text import ids, mib_by_node, pages_by_node


@pytest.mark.parametrize(
    ("numbers", "text"), [([], "none"), ([3], "3"), ([5, 0, 1, 2, 3], "0-3,5"), ([0, 1, 1], "0-1"), ([0, 2], "0,2")]
)
def test_ids(numbers: list[int], text: str) -> None:
    assert ids(numbers) == text


def test_memory() -> None:
    assert mib_by_node({2: 1, 0: 256, 1: 0}) == "node 0: 256 MiB, node 2: 1 MiB"
    assert pages_by_node({0: 65536, 1: 3, 2: 0}) == "node 0: 256 MiB, node 1: 3 pages"
    assert mib_by_node({}) == pages_by_node({}) == "no memory"
