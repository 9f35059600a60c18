"""What the manager may do: lists of names and patterns."""

from __future__ import annotations

import pytest

from domicile.state.mandate import DomainMandate, Mandate


@pytest.mark.parametrize(
    ("allow", "deny", "touched"),
    [
        (("*",), (), {"web1", "web10", "db", "Web1", "a*b"}),
        (("web?",), (), {"web1"}),
        (("web*", "db"), ("web1",), {"web10", "db"}),
        (("*",), ("*",), set()),
        ((), (), set()),
        (("[wd]*",), ("??",), {"web1", "web10"}),
        (("a*b",), (), {"a*b"}),
        (("[",), (), set()),
    ],
)
def test_who_may_be_touched(allow: tuple[str, ...], deny: tuple[str, ...], touched: set[str]) -> None:
    mandate = Mandate(allow=allow, deny=deny)
    assert {name for name in ("web1", "web10", "db", "Web1", "a*b") if mandate.may_touch(name)} == touched


def test_of_whom_nothing_is_said() -> None:
    db = DomainMandate("db", may_move=False)
    mandate = Mandate(domains=(db,))
    assert mandate.of("db") is db
    assert mandate.of("web") == DomainMandate("web")
