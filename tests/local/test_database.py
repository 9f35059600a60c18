"""A database file used by several processes."""

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from domicile.errors import HostFailed
from domicile.local import database
from domicile.local.database import Database, Format

KIND = Format(7, 2, "shelf", ("CREATE TABLE things (n INTEGER PRIMARY KEY)",))


def count(opened: Database) -> int:
    with opened.reading() as connection:
        return int(connection.execute("SELECT count(*) FROM things").fetchone()[0])


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    opened = Database(tmp_path / "x.sqlite", KIND)
    with opened.writing() as connection:
        connection.execute("INSERT INTO things VALUES (1)")

    def interrupted() -> None:
        with opened.writing() as connection:
            connection.execute("INSERT INTO things VALUES (2)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert count(opened) == 1
    with pytest.raises(sqlite3.IntegrityError), opened.writing() as connection:
        connection.execute("INSERT INTO things VALUES (1)")
    opened.close()
    again = Database(tmp_path / "x.sqlite", KIND)
    assert count(again) == 1
    again.close()


def test_counts_right_with_several_processes(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                opened = Database(path, KIND)
                for _ in range(20):
                    with opened.writing() as connection:
                        seen = connection.execute("SELECT count(*) FROM things").fetchone()[0]
                        connection.execute("INSERT INTO things VALUES (?)", (seen,))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    opened = Database(path, KIND)
    assert count(opened) == 120
    opened.close()


def test_a_file_that_somebody_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    one, other = Database(tmp_path / "x.sqlite", KIND), Database(tmp_path / "x.sqlite", KIND)
    with one.writing(), pytest.raises(HostFailed, match="another process has held it"), other.writing():
        pass
    with other.writing():
        pass
    one.close()
    other.close()


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").mkdir()
    with pytest.raises(HostFailed, match=r"x\.sqlite: Is a directory"):
        Database(tmp_path / "x.sqlite", KIND)


def test_an_older_file_is_brought_up_step_by_step(tmp_path: Path) -> None:
    Database(tmp_path / "x.sqlite", KIND).close()
    steps = {
        KIND.version: ("CREATE TABLE labels (text TEXT)", "INSERT INTO labels VALUES ('a')"),
        KIND.version + 1: ("INSERT INTO labels SELECT text || 'b' FROM labels",),
    }
    later = replace(KIND, version=KIND.version + 2, upgrades=steps)
    for _ in range(2):
        opened = Database(tmp_path / "x.sqlite", later)
        with opened.reading() as connection:
            assert [row["text"] for row in connection.execute("SELECT text FROM labels")] == ["a", "ab"]
        opened.close()
    with pytest.raises(HostFailed, match="newer domicile"):
        Database(tmp_path / "x.sqlite", KIND)


def test_a_file_too_old_says_what_to_do(tmp_path: Path) -> None:
    Database(tmp_path / "x.sqlite", KIND).close()
    later = replace(KIND, version=KIND.version + 2, upgrades={KIND.version + 1: ()})
    with pytest.raises(HostFailed, match=r"older domicile \(format 2\); remove it with"):
        Database(tmp_path / "x.sqlite", later)


def test_a_remedy_is_safe_to_paste(tmp_path: Path) -> None:
    path = tmp_path / "it's $(touch here); x.sqlite"
    path.write_text("nonsense" * 100)
    with pytest.raises(HostFailed, match="no usable shelf") as caught:
        Database(path, KIND)
    assert os.system(str(caught.value).partition("remove it with: ")[2]) == 0
    assert list(tmp_path.iterdir()) == []
