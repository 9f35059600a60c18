"""The lab itself, on a real Xen: it is the machine that the machine file says, and nobody is left running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from processes import lives

from domicile.lab import Lab, load_machine
from domicile.lab.folder import is_running, state_folder
from domicile.lab.machine import Machine

pytestmark = pytest.mark.lab

FreshXen = Callable[..., Lab]


def xl_info(lab: Lab) -> str:
    done = lab.run(["xl", "info", "-n"])
    assert done.returncode == 0, done.stderr
    return done.stdout


def section(text: str, title: str) -> list[list[str]]:
    """The rows (split) of a table of `xl info -n`, without its heading: up to the next `key : value`."""
    rows = []
    for line in text.partition(f"{title}")[2].splitlines()[2:]:
        if re.match(r"[a-z]", line):
            break
        rows.append(line.replace(":", " ").split())
    return rows


def agrees(text: str, machine: Machine) -> None:
    """`xl info -n` shows the nodes, CPUs and distances of the machine file."""
    nodes = section(text, "numa_info")
    assert [int(row[0]) for row in nodes] == list(range(len(machine.nodes)))
    for row, node in zip(nodes, machine.nodes, strict=True):
        assert int(row[1]) == node.memory_mib
    if machine.distances is not None:
        assert [[int(d) for d in row[3].split(",")] for row in nodes] == [list(row) for row in machine.distances]
    cpus = section(text, "cpu_topology")
    expected = {cpu: node for node in range(len(machine.nodes)) for cpu in machine.cpus_of(node)}
    assert {int(row[0]): int(row[3]) for row in cpus} == expected


def test_shows_the_machine_of_its_file(xen: Lab) -> None:
    agrees(xl_info(xen), xen.machine)


def test_devices_are_on_the_nodes_of_the_file(fresh_xen: FreshXen) -> None:
    lab = fresh_xen("4node-pci")
    text = xl_info(lab)
    agrees(text, lab.machine)
    devices = {
        row[-2]: int(row[-1]) for row in (line.split() for line in text.splitlines()) if row and row[0].count(":") == 2
    }
    assert {node for address, node in devices.items() if address.endswith(":00.0")} == {1, 3}
    assert devices["0000:41:00.0"] == 1
    assert devices["0000:81:00.0"] == 3


def test_the_scheduler_comes_from_the_machine_file(fresh_xen: FreshXen) -> None:
    assert re.search(r"xen_scheduler\s+: credit$", xl_info(fresh_xen("4node-credit")), re.MULTILINE)


def test_two_labs_side_by_side_have_disks_of_their_own(xen: Lab, fresh_xen: FreshXen) -> None:
    other = fresh_xen("4node")
    assert other.ssh_port != xen.ssh_port
    assert other.run("echo other >/root/mine && cat /root/mine").stdout == "other\n"
    assert xen.run(["test", "-e", "/root/mine"]).returncode == 1


def test_a_saved_state_starts_with_the_right_time(
    xen: Lab, record_testsuite_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    with Lab.start(load_machine("4node")) as lab:
        xl_info(lab)
        record_testsuite_property("lab_second_start_s", round(time.monotonic() - started, 2))
        assert abs(int(lab.run(["date", "+%s"]).stdout) - time.time()) < 60


def test_commands_and_their_exit_status_arrive_as_they_are(xen: Lab) -> None:
    odd = "two  words; $HOME `id` 'quoted' \"twice\" *"
    assert xen.run(["printf", "%s", odd]).stdout == odd
    assert xen.run(["-n"]).returncode == 127
    assert xen.run("exit 7").returncode == 7
    assert xen.run(["cat"], input="from outside").stdout == "from outside"


def test_the_host_key_is_checked(xen: Lab, tmp_path: Path) -> None:
    wrong = tmp_path / "known_hosts"
    wrong.write_text("lab ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
    argv = [f"UserKnownHostsFile={wrong}" if "UserKnownHostsFile" in word else word for word in xen.ssh_argv()]
    done = subprocess.run([*argv, "true"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 255
    assert "verification failed" in done.stderr


def test_the_cable_is_pulled_and_plugged_in_again(fresh_xen: FreshXen) -> None:
    lab = fresh_xen("2node")
    lab.cut_network()
    argv = ["ConnectTimeout=4" if word.startswith("ConnectTimeout") else word for word in lab.ssh_argv()]
    assert subprocess.run([*argv, "true"], capture_output=True, timeout=120, check=False).returncode == 255
    lab.restore_network()
    assert lab.run(["true"]).returncode == 0


def test_healing_does_no_harm(fresh_xen: FreshXen) -> None:
    lab = fresh_xen("2node")
    pid = lab.run('sh -c "while :; do :; done" </dev/null >/dev/null 2>&1 & echo $!').stdout.strip()
    lab.heal()
    assert lab.run(["kill", pid]).returncode == 0
    assert not (lab.folder / "gdb.sock").exists()
    lab.heal()
    assert lab.run(["true"]).returncode == 0


@pytest.mark.soak
def test_dom0_reboots(fresh_xen: FreshXen) -> None:
    lab = fresh_xen("2node")
    lab.run("echo kept >/root/kept; sync")
    before = lab.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    lab.reset()
    assert lab.run(["cat", "/root/kept"]).stdout == "kept\n"
    after = lab.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    assert after != before
    lab.reboot()
    assert lab.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout not in {before, after}
    agrees(xl_info(lab), lab.machine)


def ended(pids: Iterable[str | int], within_s: float = 10) -> bool:
    """Whether these processes end; one that only waits to be collected by its parent (a zombie) has ended."""
    deadline = time.monotonic() + within_s
    left = {str(pid) for pid in pids}
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if lives(pid)}
        time.sleep(0.05)
    return not left


STARTER = """
import sys, time
from domicile.lab import Lab, load_machine
lab = Lab.start(load_machine("4node"), name=sys.argv[1])
print("up", flush=True)
time.sleep(600)
"""


def test_nobody_is_left_when_the_starter_is_killed(lab_possible: None, xen: Lab) -> None:
    name = f"orphan-{os.getpid()}"
    starter = subprocess.Popen([sys.executable, "-c", STARTER, name], stdout=subprocess.PIPE)
    with starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        place = state_folder() / "labs" / name
        keeper = int((place / "keeper.pid").read_text())
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        assert children
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while place.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not place.exists()
    assert ended([*children, keeper])


def domicile(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from domicile.cli.main import run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=900, check=False
    )


def test_the_commands_from_up_to_down(lab_possible: None, xen: Lab, tmp_path: Path) -> None:
    name = f"cli-{os.getpid()}"
    up = domicile("lab", "up", name, "--machine", "2node")
    assert up.returncode == 0, up.stderr
    try:
        again = domicile("lab", "up", name)
        assert again.returncode == 2
        assert again.stderr.strip().splitlines()[-1].startswith(f"domicile: {name}: a lab of that name is running")
        shown = json.loads(domicile("lab", "status", "--json").stdout)
        mine = next(lab for lab in shown["labs"] if lab["name"] == name)
        assert (mine["machine"], mine["nodes"], mine["cpus"]) == ("2node", 2, 4)
        assert "Domain-0" in domicile("lab", "ssh", name, "--", "xl", "list").stdout
        script = tmp_path / "script"
        script.write_text('#!/bin/sh\necho $# "$1" on $(hostname)\nexit 42\n')
        ran = domicile("lab", "run", "--name", name, str(script), "a  b", "c")
        assert (ran.returncode, ran.stdout) == (42, "2 a  b on lab\n")
        keeper = int((Path(mine["folder"]) / "keeper.pid").read_text())
        assert is_running(Path(mine["folder"]))
    finally:
        down = domicile("lab", "down", name)
    assert (down.returncode, down.stdout) == (0, f"{name}: ended\n")
    assert ended([keeper])
    assert domicile("lab", "ssh", name, "--", "true").returncode == 2


def test_a_lab_whose_keeper_was_killed_is_told_and_cleared(lab_possible: None, xen: Lab) -> None:
    name = f"stale-{os.getpid()}"
    with Lab.start(load_machine("4node"), name=name) as lab:
        keeper = int((lab.folder / "keeper.pid").read_text())
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        os.kill(keeper, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while is_running(lab.folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        shown = domicile("lab", "status")
        assert f"lab {name} is gone" in shown.stderr
        assert not lab.folder.exists()
        assert ended(children)
