"""The cable pulled: connections cut, `xl` failing, Dom0 rebooting in the middle of `create`, on the real Xen.

Every time: one clear line, exit status 3, and no half-made domain or reservation left behind. The tests break their
lab, so they have one of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domicile.lab import Lab
from domicile.lab.guests.config import GUESTS_FOLDER, guest_config
from domicile.lab.guests.image import PACKED_KERNEL_NAME

pytestmark = pytest.mark.lab

LEASE_S = 30
"""After this long without a word the agent in Dom0 takes its client for gone (`hosts/xen/dom0/agent/link.py`)."""


@pytest.fixture(scope="module")
def broken(lab_factory: Callable[[], Lab]) -> Lab:
    return lab_factory()


@pytest.fixture(autouse=True)
def _own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))


def command(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "domicile", *arguments, "-c", f"lab:///{lab.name}"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())


@pytest.fixture(autouse=True)
def _no_guests_left(broken: Lab) -> Iterator[None]:
    """A failed test leaves the next one a host without guests."""
    yield
    for line in broken.run(["xl", "list"]).stdout.splitlines()[2:]:
        broken.run(["xl", "destroy", line[:40].split()[0]])


def config(folder: Path, name: str, **keys: str) -> str:
    """A guest from a packed kernel: `xl create` takes its time to unpack it, and can be met at work."""
    path = folder / f"{name}.cfg"
    keys.setdefault("kernel", f"{GUESTS_FOLDER}/{PACKED_KERNEL_NAME}")
    path.write_text(guest_config(name, "pvh", 2, 256, keys=keys))
    return str(path)


def wait_until_building(lab: Lab) -> None:
    """Wait until `xl create` is at work in Dom0."""
    looking = (
        'for _ in $(seq 2400); do [ -z "$(ls /run/domicile/building 2>/dev/null)" ] || exit 0; sleep 0.05; done; exit 1'
    )
    if lab.run(looking).returncode:
        pytest.fail("no creation came under way")


def refused_clearly(process: subprocess.Popen[str], *, within_s: float = 240) -> str:
    """The creation ended with status 3 and one line."""
    _, err = process.communicate(timeout=within_s)
    assert process.returncode == 3, err
    assert "Traceback" not in err
    assert err.strip().startswith("domicile: ")
    return err


def succeeds(process: subprocess.Popen[str]) -> str:
    """It ended with status 0; what it printed."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def nothing_left(lab: Lab, *, within_s: float) -> None:
    """Only Dom0 runs, and nothing is reserved: at the latest when the lease has run out."""
    deadline = time.monotonic() + within_s
    while True:
        listed = lab.run(["xl", "list"]).stdout.splitlines()[1:]
        shown = json.loads(succeeds(command(lab, "show", "--json", "--window", "0")))
        if len(listed) == 1 and not shown["reservations"]:
            return
        assert time.monotonic() < deadline, f"{listed}, {shown['reservations']}"
        time.sleep(2)


def works_again(lab: Lab, tmp_path: Path) -> None:
    """The same guest can be created now, and verify is content."""
    succeeds(command(lab, "create", config(tmp_path, "again")))
    succeeds(command(lab, "verify"))
    lab.run(["xl", "destroy", "again"])


def test_xl_fails(broken: Lab, tmp_path: Path) -> None:
    process = command(broken, "create", config(tmp_path, "web", kernel="/nowhere/vmlinuz"))
    assert "/nowhere/vmlinuz" in refused_clearly(process)
    nothing_left(broken, within_s=10)


def test_xl_is_not_there(broken: Lab, tmp_path: Path) -> None:
    paths = "/usr/sbin/xl /usr/lib/xen-*/bin/xl"
    broken.run(f"for xl in {paths}; do mv $xl $xl.away; done")
    try:
        assert "xl" in refused_clearly(command(broken, "create", config(tmp_path, "web")))
    finally:
        broken.run(f"for xl in {paths.replace('xl ', 'xl.away ')}.away; do mv $xl ${{xl%.away}}; done")
    nothing_left(broken, within_s=10)


def test_client_killed(broken: Lab, tmp_path: Path) -> None:
    process = command(broken, "create", config(tmp_path, "web"))
    wait_until_building(broken)
    process.kill()
    process.communicate()
    nothing_left(broken, within_s=LEASE_S + 60)
    works_again(broken, tmp_path)


def test_network_cut(broken: Lab, tmp_path: Path) -> None:
    process = command(broken, "create", config(tmp_path, "web"))
    wait_until_building(broken)
    broken.cut_network()
    try:
        refused_clearly(process)
        time.sleep(LEASE_S)
    finally:
        broken.restore_network()
    nothing_left(broken, within_s=LEASE_S + 60)
    works_again(broken, tmp_path)


@pytest.mark.soak
def test_dom0_reboots(broken: Lab, tmp_path: Path) -> None:
    process = command(broken, "create", config(tmp_path, "web"))
    wait_until_building(broken)
    with ThreadPoolExecutor(1) as other:
        booted = other.submit(broken.reset)
        refused_clearly(process)
        booted.result()
    nothing_left(broken, within_s=10)
    works_again(broken, tmp_path)
