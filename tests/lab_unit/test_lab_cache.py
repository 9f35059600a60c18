"""The cache: whole or not at all, made once, below its limit."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from domicile.errors import HostFailed
from domicile.lab import cache


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOMICILE_LAB_CACHE", str(tmp_path))
    return tmp_path


def test_a_broken_making_leaves_nothing_and_the_next_starts_anew(folder: Path) -> None:
    target = folder / "images" / "key"

    def broken(partial: Path) -> None:
        (partial / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.ensure_folder(target, broken)
    assert not target.exists()

    def whole(partial: Path) -> None:
        assert list(partial.iterdir()) == []
        (partial / "whole").write_text("whole")

    assert (cache.ensure_folder(target, whole) / "whole").read_text() == "whole"
    cache.ensure_folder(target, broken)  # is not called again


def test_what_a_killed_maker_left_is_not_taken_for_whole(folder: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from domicile.lab.cache import ensure_folder
def make(partial):
    (partial / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
ensure_folder(Path(sys.argv[1]), make)
"""
    target = folder / "images" / "key"
    subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert not target.exists()
    made = cache.ensure_folder(target, lambda partial: (partial / "whole").touch())
    assert [path.name for path in made.iterdir()] == ["whole"]


def test_makers_at_once_make_it_once(folder: Path) -> None:
    target = folder / "states" / "key"
    made, waited = [], []
    inside, go_on = threading.Event(), threading.Event()

    def make(partial: Path) -> None:
        made.append(partial)
        inside.set()
        assert go_on.wait(10)

    first = threading.Thread(target=cache.ensure_folder, args=(target, make))
    first.start()
    assert inside.wait(10)

    def waiting() -> None:
        waited.append(True)
        go_on.set()

    second = threading.Thread(target=cache.ensure_folder, args=(target, make), kwargs={"waiting": waiting})
    second.start()
    first.join(10)
    second.join(10)
    assert len(made) == 1
    assert waited == [True]


def test_the_least_recently_used_go_first_and_what_is_kept_never(folder: Path) -> None:
    def entry(kind: str, name: str, age_s: int) -> Path:
        place = folder / kind / name
        place.mkdir(parents=True)
        (place / "data").write_bytes(os.urandom(1 << 20))
        os.utime(place, (1e9 - age_s, 1e9 - age_s))
        return place

    old, newer, kept = entry("states", "old", 30), entry("states", "newer", 10), entry("images", "kept", 99)
    assert cache.evict({kept}, limit_mib=10) == []
    assert cache.evict({kept}, limit_mib=2) == [old]
    assert newer.exists()
    assert cache.evict({kept}, limit_mib=0) == [newer]
    assert kept.exists()


def test_a_short_disk_is_said_before_anything_is_done(folder: Path) -> None:
    free = cache.free_mib(folder / "not" / "there")
    with pytest.raises(HostFailed, match=r"needs \d+ MiB free in .*: \d+ MiB are short; .*DOMICILE_LAB_CACHE"):
        cache.require_space(folder, free + 500, what="building", instead="DOMICILE_LAB_CACHE")
    cache.require_space(folder, 1, what="building", instead="DOMICILE_LAB_CACHE")


def test_holes_take_no_space(folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert cache.size_mib(folder) < 1
