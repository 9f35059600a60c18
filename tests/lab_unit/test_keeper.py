"""Nobody is left running, whoever is killed. The keeper's QEMU is a `sleep` here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import lives

from domicile.errors import BadInput, HostFailed
from domicile.lab import Lab, folder, load_machine
from domicile.lab.booting import require_alive
from domicile.lab.starting import new_folder, require_not_running

SLEEP = ["sleep", "1000"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DOMICILE_LAB_STATE", str(tmp_path))
    yield new_folder("one")
    folder.stop(tmp_path / "labs" / "one", None)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def keeper_of(place: Path) -> int:
    return int((place / "keeper.pid").read_text())


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def write_record(place: Path, port: int = 22) -> None:
    folder.write_record(place, folder.Record("one", "2node", load_machine("2node"), "key", time.time(), port))


def test_it_ends_when_the_starter_lets_go(place: Path) -> None:
    pipe = folder.launch(place, SLEEP)
    keeper = keeper_of(place)
    qemu = child_of(keeper)
    assert folder.is_running(place)
    folder.stop(place, pipe)
    assert not place.exists()
    assert not lives(qemu)
    wait_until(lambda: not lives(keeper))


def test_it_ends_when_the_starter_is_killed(place: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from domicile.lab import folder
folder.launch(Path(sys.argv[1]), ["sleep", "1000"])
print("launched", flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"launched\n"
        keeper = keeper_of(place)
        qemu = child_of(keeper)
        starter.send_signal(signal.SIGKILL)
    wait_until(lambda: not lives(keeper) and not lives(qemu))
    assert not place.exists()


def test_it_lives_on_when_kept_and_ends_when_told(place: Path) -> None:
    write_record(place)
    lab = Lab(place, folder.Record("one", "2node", load_machine("2node"), "key", 0), folder.launch(place, SLEEP))
    lab.keep()
    time.sleep(0.2)
    found = Lab.find("one")
    assert (found.name, found.ssh_port) == ("one", 22)
    with pytest.raises(BadInput, match="a lab of that name is running"):
        require_not_running("one")
    with pytest.raises(BadInput, match=r"no lab of that name is running \(running are one\)"):
        Lab.find("two")
    found.stop()
    assert not place.exists()
    found.stop()


def test_a_lab_that_is_still_starting_is_not_handed_out(place: Path) -> None:
    write_record(place, port=0)
    pipe = folder.launch(place, SLEEP)
    with pytest.raises(HostFailed, match="still starting"):
        Lab.find("one")
    assert Lab.find("one", still_starting=True).ssh_port == 0
    folder.stop(place, pipe)


def test_qemu_goes_with_a_keeper_that_is_killed(place: Path) -> None:
    write_record(place)
    pipe = folder.launch(place, SLEEP)
    (place / "console.log").write_text("(XEN) last words\n")
    keeper = keeper_of(place)
    qemu = child_of(keeper)
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not lives(keeper) and not lives(qemu))
    assert not folder.is_running(place)
    (told,) = Lab.clear_ended()
    assert told.startswith("lab one is gone (its keeper was killed) and cleared away; what it said is in ")
    assert "(XEN) last words" in Path(told.rpartition(" in ")[2]).read_text()
    assert not place.exists()
    assert Lab.clear_ended() == []
    os.close(pipe)


def test_how_qemu_ended_is_told(place: Path) -> None:
    write_record(place)
    pipe = folder.launch(place, ["sh", "-c", "echo first; echo it is broken >&2; exit 3"])
    wait_until(lambda: not folder.is_running(place))
    with pytest.raises(HostFailed, match=r"QEMU ended with status 3: it is broken"):
        require_alive(place)
    lab = Lab(place, folder.Record("one", "2node", load_machine("2node"), "key", 0), pipe)
    with pytest.raises(HostFailed, match=r"lab one has ended: QEMU ended with status 3: it is broken"):
        lab.keep()
    assert len(Lab.clear_ended()) == 1


def test_a_program_that_is_not_there_is_said(place: Path) -> None:
    with pytest.raises(HostFailed, match=r"keeper did not come up: .*no-such-qemu"):
        folder.launch(place, ["/no-such-qemu"])
    assert not folder.is_running(place)


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "-dash", "a/b", "a b", "a\nb", "x" * 49, "é"])
def test_no_lab_can_be_called_that(name: str) -> None:
    with pytest.raises(BadInput, match="no lab can be called that"):
        folder.lab_folder(name)
