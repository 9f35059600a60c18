"""Folders and file names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.local.paths import STATE_VARIABLE, file_stem, private_folder, state_folder


def test_the_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    assert state_folder() == tmp_path
    monkeypatch.delenv(STATE_VARIABLE)
    assert state_folder().name == "domicile"


def test_new_folders_are_private_and_old_ones_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private_folder(tmp_path / "a/b")
    assert [path.stat().st_mode & 0o777 for path in (tmp_path, tmp_path / "a", tmp_path / "a/b")] == [
        0o755,
        0o700,
        0o700,
    ]


@given(st.text(), st.text())
def test_file_names_are_plain_short_and_differ(one: str, other: str) -> None:
    assert set(file_stem(one)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")
    assert len(file_stem(one)) < 80
    assert (file_stem(one) == file_stem(other)) == (one == other)


def test_a_file_name_can_be_read() -> None:
    assert file_stem("xen+ssh://root@host7/").startswith("xen-ssh-root-host7-")
