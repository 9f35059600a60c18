"""The plug-in and the file that it shares, with a QEMU that is played (played_qemu.c); a real one is in tests/lab."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from domicile.errors import HostFailed
from domicile.lab.guests.compiler import compile_c
from domicile.lab.measure import plugin
from domicile.lab.measure.counters import LOAD, OTHER_CODE, STORE, XEN_CODE, XEN_TEXT, CounterFile, Counters
from domicile.lab.measure.memory import MemoryLayout
from domicile.lab.measure.plugin import build_plugin, plugin_option, require_counting_qemu

pytestmark = pytest.mark.usefixtures("compiler")

NODES = MemoryLayout((512, 256))
CPUS = 3
Access = tuple[int, int, int, int, int]
"""CPU, instruction, page, store, times."""


@pytest.fixture(name="built", scope="module")
def built_plugin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The played QEMU and the plug-in."""
    folder = tmp_path_factory.mktemp("built")
    library = build_plugin(folder / "cache")
    headers = str(files("domicile.lab.measure"))
    compile_c(Path(__file__).with_name("played_qemu.c"), folder / "qemu", ["-O2", f"-I{headers}", "-rdynamic"])
    return folder / "qemu", library


def play(
    built: tuple[Path, Path], counters: CounterFile, accesses: Iterable[Access], cpus: int = CPUS
) -> subprocess.CompletedProcess[str]:
    """Let the played QEMU make these accesses; instruction 1 is Xen's."""
    argv = [
        str(built[0]),
        str(built[1]),
        str(cpus),
        "0x401000",
        hex(XEN_TEXT.start + 0x200000),
        f"counters={counters.path}",
    ]
    lines = "".join(" ".join(map(str, access)) + "\n" for access in accesses)
    return subprocess.run(argv, input=lines, capture_output=True, text=True, check=False)


def counted(built: tuple[Path, Path], counters: CounterFile, accesses: Iterable[Access]) -> Counters:
    """What is counted while these accesses are made."""
    before = counters.read()
    play(built, counters, accesses).check_returncode()
    return counters.read() - before


def test_each_access_is_counted_where_it_belongs(tmp_path: Path, built: tuple[Path, Path]) -> None:
    first_of = [NODES.plugin_range(node).start for node in (0, 1)]
    last_of = [NODES.plugin_range(node).stop - 1 for node in (0, 1)]
    with CounterFile(tmp_path / "c", CPUS, NODES, every=1) as counters:
        before = counters.attached
        seen = counted(
            built,
            counters,
            [
                (0, 0, first_of[0], 0, 5),
                (0, 0, last_of[0], 1, 7),
                (0, 0, first_of[1], 1, 11),
                (2, 0, last_of[1], 0, 13),
                (1, 1, first_of[1], 0, 17),
                (1, 0, last_of[1] + 1, 0, 19),
                (1, 0, last_of[0] + 1, 0, 23),
                (1, 1, -1, 1, 29),
                (1, 0, -2, 0, 31),
            ],
        )
        assert (before, counters.attached) == (False, True)
    expected = np.zeros((CPUS, 2, 2, 1, 2), dtype=int)
    expected[0, OTHER_CODE, 0, 0] = (5, 7)
    expected[0, OTHER_CODE, 1, 0, STORE] = 11
    expected[2, OTHER_CODE, 1, 0, LOAD] = 13
    expected[1, XEN_CODE, 1, 0, LOAD] = 17
    assert (seen.memory == expected).all()
    assert seen.unplaced == 19 + 23 + 31
    assert seen.other[1, XEN_CODE, 1, STORE] == 29
    assert seen.total == expected.sum()
    assert seen.remote_share((0, 0, 1)) == 11 / (5 + 7 + 11 + 13)
    assert seen.remote_share((0, 0, 1), XEN_CODE) == 1
    assert seen.loads_and_stores(OTHER_CODE) == (18, 18)


def test_owners_can_change_while_it_runs(tmp_path: Path, built: tuple[Path, Path]) -> None:
    with CounterFile(tmp_path / "c", CPUS, NODES, owners=3, every=1) as counters:
        page = NODES.plugin_range(1).start + 3
        frame = 512 * 256 + 3
        for owner in (1, 2):
            counters.set_owners({owner: np.array([frame])})
            seen = counted(built, counters, [(0, 0, page, 0, 10), (0, 0, page + 1, 0, 1)])
            assert seen.by_node(OTHER_CODE, [owner])[0].tolist() == [0, 10]
            assert seen.by_node(OTHER_CODE, [0])[0].tolist() == [0, 1]
            assert seen.remote_share((0, 0, 1), owners=[3 - owner]) is None


def test_one_of_many_stands_for_all(tmp_path: Path, built: tuple[Path, Path]) -> None:
    """Alternating loads and stores, and a count that comes out within 1 % (5 standard deviations)."""
    pairs = [(0, 0, 1, step % 2, 1) for step in range(20_000)]
    many = [(1, 0, NODES.plugin_range(1).start, 0, 2_000_000), (1, 0, 1, 1, 1_000_000)]
    with CounterFile(tmp_path / "c", CPUS, NODES, every=16) as counters:
        seen = counted(built, counters, [*many, *pairs])
    assert (seen.memory % 16 == 0).all()
    loads, stores = (int(count) for count in seen.memory[0, OTHER_CODE, 0, 0])
    assert loads == pytest.approx(10_000, rel=0.15)
    assert stores == pytest.approx(10_000, rel=0.15)
    assert int(seen.memory[1, OTHER_CODE, 1, 0, LOAD]) == pytest.approx(2_000_000, rel=0.01)
    assert int(seen.memory[1, OTHER_CODE, 0, 0, STORE]) == pytest.approx(1_000_000, rel=0.01)


def test_a_file_of_another_kind_is_refused(tmp_path: Path, built: tuple[Path, Path]) -> None:
    with CounterFile(tmp_path / "c", CPUS, NODES) as counters:
        assert "more CPUs than there are counters" in play(built, counters, [], cpus=CPUS + 1).stderr
        data = bytearray(counters.path.read_bytes())
        for broken in (data[:40], b"\0" * len(data), data[:4096] + data[4096:-4096]):
            counters.path.write_bytes(broken)
            done = play(built, counters, [])
            assert done.returncode == 1
            assert done.stderr.startswith("access_counter: ")
        counters.path.unlink()
        assert "cannot open" in play(built, counters, []).stderr
        counters.path.touch()


def test_arguments_are_checked(built: tuple[Path, Path]) -> None:
    for arguments in ([], ["counters"], ["counters=x", "y=1"]):
        done = subprocess.run(
            [*built, "1", "0", "0", *arguments], capture_output=True, text=True, input="", check=False
        )
        assert done.returncode == 1
        assert "counters=FILE" in done.stderr


def test_it_is_built_once(tmp_path: Path) -> None:
    library = build_plugin(tmp_path)
    stamp = library.stat().st_mtime_ns
    assert build_plugin(tmp_path) == library
    assert library.stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == [library.name]


def test_a_comma_in_a_path_is_doubled() -> None:
    assert plugin_option(Path("/a,b/p.so"), Path("/c,d")) == "/a,,b/p.so,counters=/c,,d"


def test_qemu_s_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = tmp_path / "qemu"
    for said, fits in (("7.2.22 (Debian 1:7.2)", True), ("8.1.0", True), ("9.2.1", False), ("6.2.0", False)):
        played.write_text(f"#!/bin/sh\necho 'QEMU emulator version {said}'\n")
        played.chmod(0o755)
        if fits:
            require_counting_qemu(str(played))
        else:
            with pytest.raises(HostFailed, match=r"is version .*7\.2 \(Debian 12's\) to 8\.1"):
                require_counting_qemu(str(played))
    with pytest.raises(HostFailed, match="apt-get install qemu-system-x86"):
        require_counting_qemu(str(tmp_path / "none"))
    assert plugin.TESTED_QEMU[0] == (7, 2)
