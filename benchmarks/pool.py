"""`domicile place --pool`: time and memory of the whole command, files read and written, beside plain first fit.

Two that know nothing of NUMA are beside it, in pure Python, on the same files: first fit as a user would write it, and
what CloudSim Plus calls so, which goes on from the host where the last guest found room.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.timing import Found

__all__ = ["TITLE", "measure", "write_pool"]

TITLE = "guests onto a pool of hosts, one after the other"

HOSTS, GUESTS = 20_000, 40_000
MACHINES = {"broadwell-2682v4-2n": 2, "haswell-ex-4n": 4}
FLAVOURS = (
    (1, 1024, 20), (1, 2048, 20), (2, 4096, 20), (2, 8192, 10), (4, 8192, 10), (4, 16384, 10), (8, 32768, 5),
    (8, 65536, 2), (16, 65536, 2), (32, 131072, 1),
)  # fmt: skip
"""vCPUs, memory in MiB, and how many in a hundred: sizes double, as those of public clouds do."""

WANTED_S, WANTED_GIB = 10.0, 1.0


@dataclass(frozen=True)
class _Case:
    words: str
    hosts: int
    guests: int
    machines: tuple[str, ...] = ("broadwell-2682v4-2n",)
    in_use: bool = False
    any_size: bool = False


CASES = (
    _Case("2 nodes, empty", HOSTS, GUESTS),
    _Case("  hosts x 2", 2 * HOSTS, GUESTS),
    _Case("  guests x 2", HOSTS, 2 * GUESTS),
    _Case("2 and 4 nodes, in use", HOSTS, GUESTS, tuple(MACHINES), in_use=True),
    _Case("  every guest of its own size", HOSTS, GUESTS, tuple(MACHINES), in_use=True, any_size=True),
)


def measure() -> Found:
    """Time and peak memory at the size that was asked for, and how they grow."""
    table = Table("pool", "hosts", "guests", "CPU, s", "wall, s", "peak, MiB", "refused", title=TITLE)
    rivals = Table("without NUMA, in Python", "CPU, s", "over ours", "refused", title="the first of these, beside")
    row = ("", "", "")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        _run(_written(files, _Case("", 2, 2, tuple(MACHINES))))  # compiles
        for number, case in enumerate(CASES):
            paths = _written(files, case)
            took, wall_s, peak_mib, refused = _run(paths)
            figures = (f"{took:.2f}", f"{wall_s:.2f}", f"{peak_mib:.0f}", f"{refused:,}")
            table.add_row(case.words, f"{case.hosts:,}", f"{case.guests:,}", *figures)
            if number == 0:
                row = (
                    f"{GUESTS:,} guests onto {HOSTS:,} hosts, files and all",
                    f"{took:.1f} s of CPU, {wall_s:.1f} s on the clock, {peak_mib:.0f} MiB",
                    f"under {WANTED_S:.0f} s, {WANTED_GIB:.0f} GiB",
                )
                for words, rival in (("first fit", first_fit), ("CloudSim Plus's first fit", next_fit)):
                    rival_s, nowhere = _timed(rival, paths)
                    rivals.add_row(words, f"{rival_s:.2f}", f"{rival_s / took:.1f}", f"{nowhere:,}")
    return Found(rows=[row], tables=[table, rivals])


def write_pool(hosts: Path, guests: Path, case: _Case) -> None:
    """The files of a case, drawn with a fixed seed."""
    chance = random.Random(case.hosts + case.guests)
    with hosts.open("w") as file:
        for number in range(case.hosts):
            machine = case.machines[number % len(case.machines)]
            record: dict[str, object] = {"name": f"host{number}", "machine": machine}
            if case.in_use:
                nodes = MACHINES[machine]
                record["free_mib"] = [chance.randint(20000, 60000) for _ in range(nodes)]
                record["load_vcpus"] = [chance.choice([0, 0, 2, 4]) for _ in range(nodes)]
            file.write(json.dumps(record) + "\n")
    weights = [weight for *_, weight in FLAVOURS]
    with guests.open("w") as file:
        for number in range(case.guests):
            vcpus, mib, _ = chance.choices(FLAVOURS, weights)[0]
            size = int(mib * chance.uniform(0.6, 1.6)) if case.any_size else mib
            file.write(json.dumps({"name": f"guest{number}", "vcpus": vcpus, "memory_mib": size}) + "\n")


def _written(folder: Path, case: _Case) -> tuple[Path, Path]:
    paths = folder / "hosts.jsonl", folder / "guests.jsonl"
    write_pool(*paths, case)
    return paths


def _run(paths: tuple[Path, Path]) -> tuple[float, float, float, int]:
    """CPU and wall seconds, peak memory in MiB and the number of guests refused, of the command."""
    out = paths[0].with_name("plan.jsonl")
    argv = [sys.executable, "-m", "domicile", "place", "--pool", str(paths[0]), str(paths[1]), "--json"]
    # as for a user, whose Python keeps what it has compiled of its modules
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(out.parent / "pycache")
    begin = time.monotonic()
    with out.open("w") as file:
        process = subprocess.Popen(argv, stdout=file, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise RuntimeError(f"domicile place --pool left with {process.returncode}")
    wall_s = time.monotonic() - begin
    with out.open() as file:
        refused = sum('"host":null' in line for line in file)
    return used.ru_utime + used.ru_stime, wall_s, used.ru_maxrss / 1024, refused


@dataclass(slots=True)
class _Host:
    vcpus: float
    mib: int

    def suits(self, vcpus: int, mib: int) -> bool:
        return self.vcpus >= vcpus and self.mib >= mib

    def take(self, vcpus: int, mib: int) -> None:
        self.vcpus -= vcpus
        self.mib -= mib


Find = Callable[[Sequence[_Host], int, int], int | None]


def first_fit() -> Find:
    """The first host with room."""
    return lambda hosts, vcpus, mib: next((n for n, host in enumerate(hosts) if host.suits(vcpus, mib)), None)


def next_fit() -> Find:
    """CloudSim Plus (VmAllocationPolicyFirstFit, defaultFindHostForVm): the first host with room, from the last one
    that had some."""
    last = 0

    def find(hosts: Sequence[_Host], vcpus: int, mib: int) -> int | None:
        nonlocal last
        for _ in range(len(hosts)):
            if hosts[last].suits(vcpus, mib):
                return last
            last = (last + 1) % len(hosts)
        return None

    return find


def _timed(policy: Callable[[], Find], paths: tuple[Path, Path]) -> tuple[float, int]:
    """CPU seconds, files read and written, and how many guests found no room. vCPUs may be twice the pCPUs."""
    from domicile.topology.presets import load_preset  # noqa: PLC0415 - part of what ours takes, too

    begin = time.process_time()
    machines = {name: load_preset(name).topology for name in MACHINES}
    names, hosts, nowhere = [], [], 0
    with paths[0].open() as file:
        for line in file:
            record = json.loads(line)
            machine = machines[record["machine"]]
            names.append(record["name"])
            hosts.append(_Host(2.0 * len(machine.cpus), sum(node.memory_mib for node in machine.nodes)))
    find = policy()
    with paths[1].open() as file, paths[0].with_name("rival.jsonl").open("w") as out:
        for line in file:
            record = json.loads(line)
            host = find(hosts, record["vcpus"], record["memory_mib"])
            if host is None:
                nowhere += 1
            else:
                hosts[host].take(record["vcpus"], record["memory_mib"])
            out.write(json.dumps({"domain": record["name"], "host": None if host is None else names[host]}) + "\n")
    return time.process_time() - begin, nowhere
