"""The cpio writer against `cpio(1)` or bsdtar's reading where there is one, and against its own rules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import missing

from domicile.lab.guests.cpio import Directory, Entry, File, Link, archive

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12)


def read_newc(data: bytes) -> list[tuple[str, int, bytes]]:
    """Members as (path, mode, content), by the format's description: an independent reader for the tests."""
    found: list[tuple[str, int, bytes]] = []
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        body = at + (110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert not any(data[body:])
            return found
        found.append((name, mode, data[body : body + size]))
        at = body + (size + 3) // 4 * 4


ENTRIES: list[Entry] = [
    Directory("bin"),
    File("bin/tool", b"#!/bin/sh\n", executable=True),
    Link("bin/other", "tool"),
    File("notes", b"odd size"[:7]),
]


def test_members_are_what_was_put_in() -> None:
    assert read_newc(archive(ENTRIES)) == [
        ("bin", 0o040755, b""),
        ("bin/tool", 0o100755, b"#!/bin/sh\n"),
        ("bin/other", 0o120777, b"tool"),
        ("notes", 0o100644, b"odd siz"),
    ]


@given(st.dictionaries(NAMES, st.binary(max_size=40), max_size=6))
def test_any_content_comes_back(contents: dict[str, bytes]) -> None:
    entries = [File(name, content) for name, content in contents.items()]
    data = archive(entries)
    assert [(name, content) for name, _, content in read_newc(data)] == list(contents.items())
    assert len(data) % 4 == 0
    assert archive(entries) == data


@pytest.mark.parametrize("path", ["", "/bin", "a\0b", "TRAILER!!!"])
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="cannot be a path"):
        archive([Directory(path)])


def test_a_path_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        archive([Directory("bin"), Link("bin", "x")])


UNPACKERS = [["cpio", "-i"], ["busybox", "cpio", "-i"], ["bsdtar", "-xf", "-"]]


def test_others_unpack_it(tmp_path: Path) -> None:
    installed = [argv for argv in UNPACKERS if shutil.which(argv[0])]
    if not installed:
        missing("none of cpio, busybox and bsdtar is here")
    for unpacker in installed:
        folder = tmp_path / unpacker[0]
        folder.mkdir()
        subprocess.run(unpacker, input=archive(ENTRIES), cwd=folder, check=True)
        assert (folder / "bin/tool").read_bytes() == b"#!/bin/sh\n"
        assert (folder / "bin/tool").stat().st_mode & 0o777 == 0o755
        assert (folder / "bin/other").readlink() == Path("tool")
        assert (folder / "notes").read_bytes() == b"odd siz"
