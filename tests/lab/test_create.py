"""`create` and `verify` on the real Xen: memory and soft affinity are where `place` said, and what is not is found."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from still_kernel import still_kernel

from domicile.lab import Lab
from domicile.lab.guests.config import guest_config
from domicile.topology.ids import format_ids

pytestmark = pytest.mark.lab


class Commands:
    """`domicile` on a lab, as an administrator types it, with a journal of its own."""

    def __init__(self, xen: Lab, folder: Path) -> None:
        self.xen = xen
        self.folder = folder

    def config(self, name: str, text: str) -> str:
        path = self.folder / f"{name}.cfg"
        path.write_text(text)
        return str(path)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "domicile", *arguments, "-c", f"lab:///{self.xen.name}"]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str, expect: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == expect, f"{arguments}: status {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out or err

    def json(self, *arguments: str, expect: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", expect=expect))


STILL_KERNEL = "/root/still.elf"


def still_config(name: str, vcpus: int, memory_mib: int) -> str:
    """A guest that has its memory and does nothing: the less there is to emulate, the sooner a test is over."""
    return guest_config(name, "pvh", vcpus, memory_mib, keys={"kernel": STILL_KERNEL})


@pytest.fixture
def domicile(xen: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))
    assert xen.run(f"cat > {STILL_KERNEL}", input=still_kernel()).returncode == 0
    yield Commands(xen, tmp_path)
    listed = xen.run(["xl", "list"]).stdout.splitlines()[2:]
    for line in listed:
        xen.run(["xl", "destroy", line[:40].split()[0]])


def pages_by_node(xen: Lab, name: str) -> dict[int, int]:
    """Xen's own count, read here and not by domicile: the last dump of debug key `u`."""
    found = xen.run(["xl", "domid", name])
    if found.returncode:
        logs = xen.run(f"xl list; tail -n 15 /var/log/xen/xl-{name}.log* /var/log/xen/console/guest-{name}.log").stdout
        pytest.fail(f"{name} is not there any more: {found.stderr.strip()}\n{logs}")
    xen.run(["xl", "debug-keys", "u"])
    heading = f"Domain {found.stdout.strip()} (total"
    for _ in range(10):
        # on a busy host the dump may still be on its way
        time.sleep(1)
        lines = xen.run(["xl", "dmesg"]).stdout.splitlines()
        starts = [n for n, line in enumerate(lines) if heading in line]
        if starts and len(lines) >= starts[-1] + 5:
            break
    else:
        pytest.fail(f"Xen's dump does not have {name}: {lines[-40:]}")
    start = starts[-1]
    rows = [line.split("Node")[1].split(":") for line in lines[start + 1 : start + 5]]
    return {int(node): int(pages) for node, pages in rows}


@pytest.mark.parametrize("kind", ["pv", "pvh", "hvm"])
def test_memory_and_affinity_are_where_place_said(domicile: Commands, kind: str) -> None:
    config = domicile.config("web", guest_config("web", kind, 2, 128))
    (planned,) = domicile.json("place", config)["placements"]
    (created,) = domicile.json("create", config)["placements"]
    assert created["nodes"] == planned["nodes"]
    pages = pages_by_node(domicile.xen, "web")
    total = sum(pages.values())
    assert total >= 0.9 * 128 * 256
    for node, mib in created["memory_mib"].items():
        assert pages[int(node)] / total == pytest.approx(mib / 128, abs=0.03)
    assert sum(pages[node] for node in created["nodes"]) >= 0.99 * total
    rows = domicile.xen.run(["xl", "vcpu-list", "web"]).stdout.splitlines()[1:]
    cpus = [cpu for node in created["nodes"] for cpu in (2 * node, 2 * node + 1)]
    assert [row.split(" / ")[1].strip() for row in rows] == [format_ids(cpus)] * 2
    assert "all as intended" in domicile.run("verify")


def test_a_wide_guest_has_its_memory_on_all_its_nodes(domicile: Commands) -> None:
    config = domicile.config("wide", still_config("wide", 4, 256))
    (planned,) = domicile.json("place", config)["placements"]
    domicile.run("create", config)
    pages = pages_by_node(domicile.xen, "wide")
    total = sum(pages.values())
    for node, mib in planned["memory_mib"].items():
        assert pages[int(node)] / total == pytest.approx(mib / 256, abs=0.1)


def test_what_cannot_be_is_refused_before_anything_starts(domicile: Commands) -> None:
    before = domicile.xen.run(["xl", "list"]).stdout.splitlines()
    for name, text in {
        "huge": guest_config("huge", "pvh", 1, 9000),
        "nowhere": guest_config("nowhere", "pvh", 1, 128, keys={"cpus": "nodes:7"}),
        "spread": guest_config("spread", "pvh", 4, 128, keys={"cpus_soft": "90-91"}),
    }.items():
        for command in ("place", "create"):
            process = domicile.start(command, domicile.config(name, text))
            _, err = process.communicate(timeout=120)
            assert process.returncode in (1, 2), err
            assert len(err.strip().splitlines()) == 1, err
    assert len(domicile.xen.run(["xl", "list"]).stdout.splitlines()) == len(before)


class TestVerify:
    """Each kind of deviation, provoked by hand with Xen's own tools."""

    def test_soft_affinity_changed(self, domicile: Commands) -> None:
        config = domicile.config("web", still_config("web", 2, 128))
        domicile.run("create", config)
        domicile.xen.run(["xl", "vcpu-pin", "web", "1", "-", "0,7"])
        (found,) = domicile.json("verify", expect=1)["deviations"]
        assert (found["domain"], found["kind"]) == ("web", "soft affinity changed")
        assert "0,7" in found["seen"]

    def test_hard_affinity_changed(self, domicile: Commands) -> None:
        domicile.run("create", domicile.config("web", still_config("web", 2, 128)))
        domicile.xen.run(["xl", "vcpu-pin", "web", "0", "5", "-"])
        (found,) = domicile.json("verify", expect=1)["deviations"]
        assert found["kind"] == "hard affinity changed"

    def test_domain_gone_until_forgotten(self, domicile: Commands) -> None:
        domicile.run("create", domicile.config("web", still_config("web", 1, 128)))
        domicile.xen.run(["xl", "destroy", "web"])
        (found,) = domicile.json("verify", expect=1)["deviations"]
        assert found["kind"] == "domain gone"
        assert domicile.json("verify", "--forget", "web")["deviations"] == []

    @pytest.mark.soak
    def test_memory_elsewhere(self, domicile: Commands) -> None:
        """Moved by a live local migration with another soft affinity, as an administrator could."""
        text = guest_config("web", "pvh", 1, 128)
        config = domicile.config("web", text)
        nodes = domicile.json("create", config)["placements"][0]["nodes"]
        elsewhere = next(node for node in range(4) if node not in nodes)
        shown = domicile.json("show", "--window", "0", "--memory-map", "none")
        (uuid,) = [domain["uuid"] for domain in shown["domains"] if domain["name"] == "web"]
        # without its UUID the migrated domain would be another one
        moved = guest_config("web", "pvh", 1, 128, keys={"cpus_soft": f"nodes:{elsewhere}", "uuid": uuid})
        assert domicile.xen.run("cat > /root/moved.cfg", input=moved).returncode == 0
        done = domicile.xen.run(["xl", "migrate", "-s", "", "-C", "/root/moved.cfg", "web", "xl migrate-receive"])
        assert "Migration successful" in done.stdout + done.stderr
        kinds = {one["kind"]: one for one in domicile.json("verify", expect=1)["deviations"]}
        assert f"node {elsewhere}" in kinds["memory elsewhere"]["seen"]


def test_ten_creations_at_once(domicile: Commands) -> None:
    """Ten processes, more memory than there is: each guest is where it was planned, or refused with the reason."""
    configs = [domicile.config(f"many{n}", still_config(f"many{n}", 1, 900)) for n in range(10)]
    running = [domicile.start("create", "--json", config) for config in configs]
    ended = [(process, *process.communicate(timeout=900)) for process in running]
    started = {}
    for number, (process, out, err) in enumerate(ended):
        if process.returncode == 0:
            (placement,) = json.loads(out)["placements"]
            started[f"many{number}"] = placement
        else:
            assert process.returncode == 1, err
            assert "MiB" in err, err
    assert 4 <= len(started) < 10
    for name, placement in started.items():
        pages = pages_by_node(domicile.xen, name)
        on_plan = sum(pages[int(node)] for node, mib in placement["memory_mib"].items() if mib)
        assert on_plan >= 0.99 * sum(pages.values()), name
    shown = domicile.json("show", "--window", "0")
    assert shown["reservations"] == []
    assert {domain["name"] for domain in shown["domains"]} == {"Domain-0", *started}
    assert not [domain["name"] for domain in shown["domains"] if domain["paused"]]
    assert domicile.json("verify")["deviations"] == []
