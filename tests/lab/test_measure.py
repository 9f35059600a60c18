"""The counting plug-in on a real QEMU: against known counts on plain Linux, and on Xen with guests in known places."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import pytest

from domicile.lab import Lab, load_machine
from domicile.lab.guests.compiler import compile_c
from domicile.lab.guests.cpio import Directory, File, archive
from domicile.lab.guests.image import COMPILE_OPTIONS
from domicile.lab.image import ensure
from domicile.lab.measure.counters import XEN_CODE, CounterFile
from domicile.lab.measure.memory import MemoryLayout
from domicile.lab.measure.plugin import build_plugin, plugin_option
from domicile.lab.measure.result import Measurement
from domicile.lab.measure.run import MeasuredMachine, counting, frames_now, measure
from domicile.lab.measure.scenario import read_scenario

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

PROBE_MIB, PROBE_ROUNDS, LINE = 16, 8, 64
PROBE_TEXT = range(0x401000, 0x402000)
"""Where the linker puts a static program's code."""


def silent(doing: str, done: float) -> None:
    """Shows no progress."""
    del doing, done


# ---------------------------------------------------------------------------------------------------- plain Linux


def until(lines: IO[str], word: str) -> None:
    """Read the machine's console up to this word."""
    said = []
    for line in lines:
        said.append(line)
        if line.strip() == word:
            return
    raise AssertionError(f"the machine ended without {word!r}: {''.join(said[-20:])}")


@pytest.fixture(name="linux")
def linux_under_the_plugin(tmp_path: Path, lab_possible: None) -> Iterator[tuple[subprocess.Popen[str], CounterFile]]:
    """A Linux of two nodes and four CPUs whose only process is probe.c, every access counted."""
    kernel = ensure().folder / "vmlinux"
    compile_c(Path(__file__).with_name("probe.c"), tmp_path / "probe", COMPILE_OPTIONS)
    init = File("init", (tmp_path / "probe").read_bytes(), executable=True)
    (tmp_path / "initrd").write_bytes(archive([Directory("dev"), init]))
    layout = MemoryLayout((256, 384))
    with CounterFile(tmp_path / "counters", 4, layout, code_apart=PROBE_TEXT, every=1) as counters:
        argv = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-m", "640"]
        argv += ["-smp", "4", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]
        for node, (mib, cpus) in enumerate(zip(layout.node_mib, ("0-1", "2-3"), strict=True)):
            argv += [
                "-object",
                f"memory-backend-ram,id=m{node},size={mib}M",
                "-numa",
                f"node,cpus={cpus},memdev=m{node}",
            ]
        argv += ["-kernel", str(kernel), "-initrd", str(tmp_path / "initrd"), "-append", "console=ttyS0 quiet panic=-1"]
        argv += ["-plugin", plugin_option(build_plugin(tmp_path / "plugin"), counters.path)]
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace"
        ) as machine:
            try:
                assert machine.stdout is not None
                until(machine.stdout, "cpu?")
                yield machine, counters
            finally:
                machine.kill()


def test_known_accesses_are_counted_one_by_one(linux: tuple[subprocess.Popen[str], CounterFile]) -> None:
    machine, counters = linux
    assert machine.stdin is not None
    assert machine.stdout is not None
    steps = (PROBE_MIB << 20) // LINE * PROBE_ROUNDS
    for cpu in (1, 3):
        machine.stdin.write(f"{cpu}\n")
        machine.stdin.flush()
        until(machine.stdout, "ready")
        before = counters.read()
        machine.stdin.write("g\n")
        machine.stdin.flush()
        until(machine.stdout, "done")
        counted = counters.read() - before
        # beside the loop: its stack on whichever node, a few dozen accesses
        by_node = counted.by_node(XEN_CODE)
        assert steps * 2 <= by_node[cpu, 1] < steps * 2 + 100
        assert by_node.sum() - by_node[cpu, 1] < 100
        loads, stores = counted.loads_and_stores(XEN_CODE)
        assert steps <= loads < steps + 100
        assert steps <= stores < steps + 100
        share = counted.remote_share((0, 0, 1, 1), XEN_CODE)
        assert share == pytest.approx(0 if cpu == 3 else 1, abs=1e-4)
    assert counters.read().unplaced < counters.read().total / 1000


# ------------------------------------------------------------------------------------------------------------ Xen

PINNED = """
warm_up_s = 5
window_s = 10
[[guest]]
name = "right"
place = "pinned"
node = 1
memory_mib = 128
[[guest]]
name = "wrong"
type = "pv"
place = "pinned"
node = 2
memory_node = 3
memory_mib = 128
"""


MACHINE = MeasuredMachine("4node", (2, 2, 2, 2), (2048, 2048, 2048, 2048))


@pytest.fixture(name="pinned", scope="module")
def pinned_guests(
    lab_possible: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, CounterFile, Measurement]]:
    """A guest pinned where its memory is and one where it is not, measured, in a lab that still runs."""
    scenario = read_scenario(PINNED.encode(), "pinned")
    with (
        counting(MACHINE, 2 + len(scenario.guests), tmp_path_factory.mktemp("plugin")) as (counters, plugin),
        Lab.start(load_machine("4node"), plugins=[plugin]) as running,
    ):
        yield running, counters, measure(running, MACHINE, counters, scenario, silent)


@pytest.mark.soak
def test_own_node_is_local_and_another_remote(pinned: tuple[Any, CounterFile, Measurement]) -> None:
    (window,) = pinned[2].windows
    right, wrong = window.guests
    assert right.accesses > 1_000_000
    assert wrong.accesses > 1_000_000
    assert right.remote_share is not None
    assert wrong.remote_share is not None
    assert right.remote_share < 0.01
    assert wrong.remote_share > 0.99
    assert window.unplaced < (window.loads + window.stores) / 1000


@pytest.mark.soak
def test_guests_are_seen_where_they_are(pinned: tuple[Any, CounterFile, Measurement]) -> None:
    (window,) = pinned[2].windows
    right, wrong = window.guests
    for guest, memory, ran in ((right, 1, 1), (wrong, 3, 2)):
        pages = sum(guest.place.pages_by_node.values())
        assert pages > 120 * 256
        assert guest.place.pages_by_node[memory] > 0.97 * pages
        assert guest.ran_on[ran] > 0.99
    by_cpu = {pcpu.cpu: sum(pcpu.accesses) for pcpu in window.pcpus}
    # both vCPUs of a guest may share a pCPU for a while
    assert min(by_cpu[2] + by_cpu[3], by_cpu[4] + by_cpu[5]) > by_cpu[6] + by_cpu[7]


@pytest.mark.soak
def test_xen_s_own_accesses_are_apart(pinned: tuple[Any, CounterFile, Measurement]) -> None:
    (window,) = pinned[2].windows
    assert 0 < window.xen_loads + window.xen_stores < window.loads + window.stores
    assert window.xen_remote_share is not None
    assert 0 < window.xen_remote_share < 1


@pytest.mark.soak
def test_frames_agree_with_xen_s_own_dump(pinned: tuple[Any, CounterFile, Measurement]) -> None:
    """Debug key `u` counts the same pages by node."""
    lab, counters, found = pinned
    lab.run(["xl", "debug-keys", "u"])
    dump = lab.run(["xl", "dmesg"]).stdout
    for guest in found.windows[0].guests:
        frames = frames_now(lab, MACHINE, [guest.place.id])[guest.place.id]
        nodes = np.bincount(counters.layout.node_of_frame(frames), minlength=4)
        part = dump[dump.rindex(f"Domain {guest.place.id} (total: ") :]
        total = int(part.partition("total: ")[2].partition(")")[0])
        listed = [int(line.rpartition(":")[2]) for line in part.splitlines()[1:5]]
        assert len(frames) == total
        assert nodes.tolist() == listed


@pytest.mark.soak
def test_a_result_is_json(pinned: tuple[Any, CounterFile, Measurement]) -> None:
    found = json.loads(msgspec.json.encode(pinned[2]))
    assert found["scheduler"] == "credit2"
    assert found["windows"][0]["guests"][1]["place"]["name"] == "wrong"
    assert len(found["windows"][0]["pcpus"][0]["accesses"]) == 4
