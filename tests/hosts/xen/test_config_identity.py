"""Which domain an `xl.cfg` text makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.hosts.xen.config_identity import ConfigIdentity, config_identity

UUID = "c81fd5fa-7d8a-4907-9945-6b385768d451"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name = 'g1'\nmemory=256", ("g1", None)),
        (f'name="g1"; uuid="{UUID}"', ("g1", UUID)),
        (f"name='g1'\nuuid = '{UUID.upper()}'  # mine", ("g1", UUID)),
        (f"name='g1'\nuuid='{UUID.replace('-', '')}'", ("g1", UUID)),
        (f"name='g1'\n# uuid='{UUID}'", ("g1", None)),
        (f"""name='g1'\ncmdline="a;uuid='{UUID}'" """, ("g1", None)),
        ("name='g1'\nname='g2'", ("g2", None)),
        ("disk=[\n'a',\nname='x'\n]\nname='g1'", ("g1", None)),
        ('name="a \\"quoted\\" one"', ('a "quoted" one', None)),
        ("uuid='none of that'", (None, None)),
        ("name = 5", (None, None)),
        ("vname='x'\nxname='y'", (None, None)),
        ("name='unclosed\nmemory=3", (None, None)),
        ("", (None, None)),
        ("name='g1' # it's mine\r\nmemory=1\r\n", ("g1", None)),
    ],
)
def test_identity(text: str, expected: tuple[str | None, str | None]) -> None:
    assert config_identity(text) == ConfigIdentity(*expected)


@given(st.text())
def test_never_fails_and_our_own_line_counts(text: str) -> None:
    config_identity(text)
    comment = "".join(text.split())
    assert config_identity(f'# {comment}\nuuid = "{UUID}"\n').uuid == UUID
