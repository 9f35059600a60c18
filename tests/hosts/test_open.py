"""From a URI to a host."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput, DomicileError, HostFailed
from domicile.hosts.open import open_host


@pytest.mark.parametrize(
    "uri",
    ["", "host", "qemu:///system", "xen+tcp://host/", "xen://host/", "xen:///x", "lab:///", "sim://x", "lab:///a/b"],
)
def test_what_names_no_host(uri: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_host(uri)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_nonsense_is_bad_input(text: str) -> None:
    with pytest.raises(DomicileError) as caught:
        open_host(text)
    assert caught.value.exit_status == 2
    assert str(caught.value).isprintable()


def test_a_machine_that_is_no_dom0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOMICILE_RUN_DIR", str(tmp_path / "run"))
    with pytest.raises(HostFailed, match="this machine"), open_host("xen:///") as host:
        host.snapshot()
