"""What a user names becomes a topology, or one line that says what is accepted."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.topology import detect, sysfs
from domicile.topology.detect import is_uri, read_topology
from domicile.topology.presets import load_preset

XL = b"""nr_cpus                : 1
nr_nodes               : 1
cpu_topology           :
cpu:    core    socket     node
  0:       0        0        0
numa_info              :
node:    memsize    memfree    distances
   0:      1024        512      10
xend_config_format     : 4
"""
CAPABILITIES = b"""<?xml version='1.0'?>
<!-- saved <by hand> -->
<capabilities><host><topology><cells num='1'>
  <cell id='0'><memory unit='KiB'>1048576</memory><cpus num='1'><cpu id='0'/></cpus></cell>
</cells></topology></host></capabilities>"""
MACHINE = b"# a machine\nname = 'one'\nnodes = 1\ncores_per_node = 1\nmemory_mib = 1024\n"
JSON = json.dumps({"nodes": 1, "cores_per_node": 1, "memory_mib": 1024}).encode()
FORMS = {"xl": XL, "libvirt": CAPABILITIES, "toml": MACHINE, "json": JSON, "bom": b"\xef\xbb\xbf\r\n" + JSON}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("form", FORMS)
def test_form_is_found_by_content(tmp_path: Path, form: str, packed: str) -> None:
    path = tmp_path / "machine.dat"
    path.write_bytes(PACKED[packed](FORMS[form]))
    machine = read_topology(str(path))
    assert (len(machine.nodes), machine.nodes[0].memory_mib, len(machine.cpus)) == (1, 1024, 1)
    assert machine.source == str(path)


def test_preset_goes_before_a_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("default").write_bytes(MACHINE)
    assert read_topology("default") == load_preset("default").topology
    assert read_topology("./default").name == "one"


def test_uri_is_opened_by_the_caller() -> None:
    machine = load_preset("4node").topology
    assert (
        read_topology("sim:///x", from_host=lambda uri: machine if uri == "sim:///x" else pytest.fail(uri)) is machine
    )
    with pytest.raises(BadInput, match="URI where a file is needed"):
        read_topology("xen+ssh://root@host/")
    assert not is_uri("sim:/x")
    assert not is_uri("./a://b")


@pytest.mark.parametrize("data", [XL, gzip.compress(CAPABILITIES, mtime=0)])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read_topology("-").source == "standard input"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b" \n\t\r\n", "nothing in it"),
        (b"\x00" * 2000, "neither text nor an archive"),
        (b"\x7fELF\x02\x01", "is a program"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x28\xb5\x2f\xfdrest", "compressed with zstd"),
        (b"hello\n", "no form that is known; give a preset"),
        (b"available: 2 nodes (0-1)\nnode 0 cpus: 0 1\n", "no form that is known"),
        (b"a = 1\n", "no `nodes`"),
        (b"[1, 2]\n", "no form that is known"),
        (b"<html><body>", "begins with <html>|not well-formed"),
        (b"<!-- never ends", "not well-formed"),
        (b"<", "not well-formed"),
        (b"<topologydiff/>", "difference of two hwloc topologies"),
        (b"<domainCapabilities/>", "virsh domcapabilities"),
        (gzip.compress(XL, mtime=0)[:40], "cannot be decompressed"),
        (bz2.compress(XL)[:40], "cannot be decompressed"),
        (lzma.compress(XL)[:40], "cannot be decompressed"),
        (b"\x1f\x8bnot really", "cannot be decompressed"),
        (gzip.compress(b"", mtime=0), "nothing in it"),
        (gzip.compress(gzip.compress(XL, mtime=0), mtime=0), "neither text|no form"),
        (gzip.compress(b" " * (65 << 20), mtime=0), "larger than 64 MiB"),
        (lzma.compress(b" " * (65 << 20)), "larger than 64 MiB"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "input"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=says) as caught:
        read_topology(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    fifo, loop, huge = tmp_path / "fifo", tmp_path / "loop", tmp_path / "huge"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    with huge.open("wb") as file:
        file.write(b"nodes = 1\n")
        file.truncate(1 << 40)
    for source, says in (
        (str(tmp_path / "absent"), "no such file or preset; give"),
        (f"{huge}/x", "cannot be read: Not a directory"),
        (str(fifo), "read as `-`"),
        ("/dev/zero", "read as `-`"),
        (str(loop), "cannot be read: Too many levels"),
        (str(huge), "larger than 64 MiB"),
        ("", "nothing given"),
        ("nul\0byte", "no name of a file"),
        ("x" * 5000, "cannot be read: File name too long"),
    ):
        with pytest.raises(BadInput, match=says):
            read_topology(source)


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_bytes(XL)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("domicile.topology.detect.os.open", refuse)  # root may read everything
    with pytest.raises(BadInput, match="cannot be read: Permission denied"):
        read_topology(str(path))


def test_xz_that_asks_for_too_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "greedy.xz"
    path.write_bytes(lzma.compress(XL, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 8 << 20}]))
    assert read_topology(str(path)).nodes
    monkeypatch.setattr(detect, "XZ_MEMORY", 1 << 20)
    with pytest.raises(BadInput, match="cannot be decompressed: Memory usage limit"):
        read_topology(str(path))


def tar_of(name: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 2
        tar.addfile(member, io.BytesIO(b"0\n"))
    return packed.getvalue()


def test_folder_and_tar_without_sysfs(tmp_path: Path) -> None:
    path = tmp_path / "other.tar.gz"
    path.write_bytes(tar_of("etc/motd"))
    for source in (tmp_path, path):
        with pytest.raises(BadInput):
            read_topology(str(source))


@pytest.mark.skipif(not Path("/sys/devices/system/node/online").exists(), reason="this machine shows no nodes")
def test_this_machine() -> None:
    assert read_topology("/sys").cpus


def test_tar_goes_to_the_sysfs_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, seen = load_preset("4node").topology, []

    def reader(path: Path, source: str) -> object:
        seen.append((path.is_dir(), source))
        return machine

    monkeypatch.setattr(sysfs, "read_sysfs", reader)
    path = tmp_path / "sys.tar.gz"
    path.write_bytes(tar_of("sys/devices/system/cpu/online"))
    assert read_topology(str(path)) is machine
    assert read_topology(str(tmp_path)) is machine
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert read_topology("-") is machine
    assert seen == [(False, str(path)), (True, str(tmp_path)), (False, "standard input")]


def test_hwloc_by_its_root_element(tmp_path: Path) -> None:
    path = tmp_path / "machine"
    path.write_bytes(
        b'<?xml version="1.0"?>\n<!DOCTYPE topology SYSTEM "hwloc2.dtd">\n<topology version="2.0"></topology>'
    )
    with pytest.raises(BadInput):
        read_topology(str(path))


@settings(max_examples=150, deadline=3000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbled_files(tmp_path: Path, data: st.DataObject) -> None:
    content = data.draw(
        st.sampled_from([XL, CAPABILITIES, MACHINE, JSON, gzip.compress(XL, mtime=0), bz2.compress(MACHINE), b""])
    )
    at = data.draw(st.integers(0, len(content)))
    content = content[:at] + data.draw(st.binary(max_size=4)) + content[at + data.draw(st.integers(0, 3)) :]
    path = tmp_path / "input"
    path.write_bytes(content)
    try:
        machine = read_topology(str(path))
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert machine.nodes
