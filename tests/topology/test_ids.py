"""Sets of ids as text."""

import pytest

from domicile.topology.ids import format_ids


@pytest.mark.parametrize(
    ("ids", "text"),
    [([], "none"), ([4], "4"), ([3, 1, 2], "1-3"), ([0, 1, 5, 7, 8], "0-1,5,7-8"), ([2, 2], "2")],
)
def test_shortest_form(ids: list[int], text: str) -> None:
    assert format_ids(ids) == text
