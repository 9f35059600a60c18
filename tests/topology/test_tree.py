"""Folders and tars as trees: the same answers, links that stay inside, archives that cannot hurt."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.topology.tree import MAX_FILE_BYTES, FileTree, FolderTree
from domicile.topology.tree_tar import MAX_MEMBER_BYTES, TarTree, read_tar


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    info.size = len(data)
    return info, data


def tar_bytes(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def opened(tmp_path: Path, data: bytes) -> FileTree:
    path = tmp_path / "some.tar"
    path.write_bytes(data)
    return TarTree(read_tar(path, "some.tar"), "")


LINKS = {
    "in": "a/file",
    "up": "a/../a/file",
    "absolute": "/a/file",
    "out": "../../../../../../../../etc/passwd",
    "absolute-out": "/etc/passwd",
    "loop": "loop",
    "loop-1": "loop-2",
    "loop-2": "loop-1",
    "folder": "a",
    "nowhere": "b/c",
}


@pytest.fixture(params=["folder", "tar"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> FileTree:
    """A file, a folder and links of every kind, as a folder and as a tar."""
    if request.param == "tar":
        links = [member(name, kind=tarfile.SYMTYPE, target=target) for name, target in LINKS.items()]
        return opened(tmp_path, tar_bytes(member("a/file", b"text\n"), *links))
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a/file").write_text("text\n")
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    return FolderTree(root, "root")


@pytest.mark.parametrize("path", ["a/file", "in", "up", "absolute", "folder/file", "./a//file", "folder/../a/file"])
def test_paths_that_lead_to_the_file(tree: FileTree, path: str) -> None:
    assert tree.read(path) == "text\n"
    assert tree.read_start(path, 2) == "te"
    assert tree.resolve(path) == "a/file"


@pytest.mark.parametrize(
    "path",
    ["out", "absolute-out", "loop", "loop-1", "nowhere", "a", "a/file/x", "../a/file", "a/../../root/a/file", ""],
)
def test_paths_that_lead_nowhere(tree: FileTree, path: str) -> None:
    assert tree.read(path) is None


def test_names(tree: FileTree) -> None:
    assert tree.names("a") == ("file",)
    assert tree.names("folder") == ("file",)
    assert tree.names("a/file") == ()
    assert set(tree.names("")) == {"a", *LINKS}
    assert tree.is_folder("folder")
    assert not tree.is_folder("in")


def test_pipes_and_devices_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    folder = FolderTree(tmp_path, "here")
    assert folder.read("pipe") is None
    assert folder.read("null") is None
    archive = opened(tmp_path, tar_bytes(member("pipe", kind=tarfile.FIFOTYPE), member("x", kind=tarfile.CHRTYPE)))
    assert archive.read("pipe") is None
    assert archive.read("x") is None


def test_a_file_larger_than_any_attribute(tmp_path: Path) -> None:
    data = b"x" * (MAX_FILE_BYTES + 1)
    (tmp_path / "large").write_bytes(data)
    for tree in (FolderTree(tmp_path, "here"), opened(tmp_path, tar_bytes(member("large", data)))):
        with pytest.raises(BadInput, match=r"large: larger than 65536 bytes"):
            tree.read("large")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_every_form_of_tar(tmp_path: Path, form: int, pack: Callable[[bytes], bytes]) -> None:
    long = "d" * 90 + "/" + "f" * 90
    members = [
        member("/absolute", b"1"),
        member(long, b"2"),
        member("hard", kind=tarfile.LNKTYPE, target=long if form != tarfile.USTAR_FORMAT else "absolute"),
        member("folder/", kind=tarfile.DIRTYPE),
        member("twice", b"old"),
        member("twice", b"new"),
    ]
    if form != tarfile.USTAR_FORMAT:
        members.append(member("é" * 150, b"3"))
        members.append(member("link", kind=tarfile.SYMTYPE, target="x/../" * 40 + "twice"))
        members.append(member("x", kind=tarfile.DIRTYPE))
    tree = opened(tmp_path, pack(tar_bytes(*members, form=form)))
    assert tree.read("absolute") == "1"
    assert tree.read(long) == "2"
    assert tree.read("hard") in ("1", "2")
    assert tree.read("twice") == "new"
    assert tree.is_folder("folder")
    if form != tarfile.USTAR_FORMAT:
        assert tree.read("é" * 150) == "3"
        assert tree.read("link") == "new"


def test_several_compressed_streams_one_after_the_other(tmp_path: Path) -> None:
    data = tar_bytes(member("a", b"1"), member("b", b"2"))
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        assert opened(tmp_path, compress(data[:700]) + compress(data[700:])).read("b") == "2"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"no tar at all, but longer than one block" * 20, "no tar"),
        (tar_bytes(member("a", b"x" * 600))[:512], "cut short"),
        (tar_bytes(member("a", b"x" * 600))[:1000], "cut short"),
        (tar_bytes(member("a", b"x" * 600))[:1536], "cut short"),
        (gzip.compress(tar_bytes(member("a", b"1")), mtime=0)[:60], "damaged or cut short"),
        (bz2.compress(tar_bytes(member("a", b"1")))[:60], "damaged or cut short"),
        (lzma.compress(tar_bytes(member("a", b"1")))[:60], "damaged or cut short"),
        (tar_bytes(member("../up", b"1")), "leads out"),
        (tar_bytes(member("a/../../up", b"1")), "leads out"),
        (tar_bytes(member("/".join("d" * 100), b"1")), "too deep"),
        (tar_bytes(member("a", b"1"), member("a/b", b"1")), "a folder and something else"),
        (tar_bytes(member("a/b", b"1"), member("a", kind=tarfile.SYMTYPE, target="/")), "a folder and something else"),
        (
            tar_bytes(member("a", kind=tarfile.SYMTYPE, target="/etc"), member("a/b", b"1")),
            "a folder and something else",
        ),
        (tar_bytes(member("a")) + b"x" * (3 << 20), "more than padding"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(BadInput, match=problem) as caught:
        opened(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_a_gzipped_tar(tmp_path: Path) -> None:
    data = tar_bytes(member("a", bytes(range(256))))
    packed = bytearray(gzip.compress(data, compresslevel=0))
    packed[packed.index(bytes(range(256))) + 7] ^= 1
    with pytest.raises(BadInput, match="damaged"):
        opened(tmp_path, bytes(packed))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_bombs_are_short_work(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    giant = tarfile.TarInfo("giant")
    giant.size = 1 << 40
    started = time.process_time()
    with pytest.raises(BadInput, match="no file of a /sys is"):
        opened(tmp_path, pack(giant.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(BadInput, match="more than padding"):
        opened(tmp_path, pack(tar_bytes(member("a")) + bytes(MAX_MEMBER_BYTES // 4)))
    assert time.process_time() - started < 5


def test_a_header_extension_of_many_digits_is_no_trap(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = 60000
    started = time.process_time()
    with pytest.raises(BadInput, match="damaged header extension"):
        opened(tmp_path, info.tobuf(tarfile.USTAR_FORMAT) + b"1" * 60416 + bytes(1024))
    assert time.process_time() - started < 2


def test_a_size_that_leads_back_is_no_loop(tmp_path: Path) -> None:
    info = tarfile.TarInfo("back")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 10 + b"\xfe\x00"
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}".encode() + b"\0 "
    with pytest.raises(BadInput, match="no file of a /sys is"):
        opened(tmp_path, bytes(block) + bytes(1024))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    cut=st.none() | st.integers(0, 6000),
    edits=st.lists(st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=12)), max_size=4),
    pack=st.sampled_from([bytes, gzip.compress, bz2.compress, lzma.compress]),
    before=st.booleans(),
)
def test_damaged_archives_are_read_or_refused(
    tmp_path: Path,
    cut: int | None,
    edits: list[tuple[int, bytes]],
    pack: Callable[[bytes], bytes],
    before: bool,
) -> None:
    data = tar_bytes(
        member("s" * 120, b"1" * 700), member("l", kind=tarfile.SYMTYPE, target="/a"), form=tarfile.PAX_FORMAT
    )
    packed = bytearray(data if before else pack(data))
    for at, piece in edits:
        packed[at : at + len(piece)] = piece
    damaged = bytes(packed[:cut])
    with contextlib.suppress(BadInput):
        tree = opened(tmp_path, pack(damaged) if before else damaged)
        assert all(tree.resolve(name) or name == "l" for name in tree.names(""))
