"""`show` against what Xen's own tools print, on the real Xen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from domicile.lab import Lab
from domicile.lab.guests.config import guest_config

pytestmark = pytest.mark.lab

GUESTS = {
    "one": guest_config("one", "pvh", 2, 128, keys={"cpus_soft": "2-3"}),
    "two of them": guest_config("two of them", "pv", 1, 96, keys={"cpus": "6"}),
    "three": guest_config("three", "hvm", 4, 160),
}


def domicile(xen: Lab, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "domicile", *arguments, "-c", f"lab:///{xen.name}", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def shown(xen: Lab) -> Iterator[dict[str, Any]]:
    """The host with three guests, paused so that nothing moves, as `show` tells it."""
    for number, text in enumerate(GUESTS.values()):
        assert xen.run(f"cat > /root/shown{number}.cfg", input=text).returncode == 0
        done = xen.run(["xl", "create", "-p", f"/root/shown{number}.cfg"])
        assert done.returncode == 0, done.stderr
    yield domicile(xen, "show", "--memory-map", "now", "--window", "0")
    for name in GUESTS:
        xen.run(["xl", "destroy", name])


def test_nodes_are_those_of_xl_info(xen: Lab, shown: dict[str, Any]) -> None:
    table = xen.run(["xl", "info", "-n"]).stdout.partition("numa_info")[2]
    rows = re.findall(r"^ +(\d+): +(\d+) +(\d+) +([\d,]+)$", table, re.MULTILINE)
    seen = {int(node): (int(size), int(free)) for node, size, free, _ in rows}
    assert {node["id"]: node["memory_mib"] for node in shown["nodes"]} == {n: size for n, (size, _) in seen.items()}
    for node in shown["nodes"]:
        assert abs(node["free_mib"] - seen[node["id"]][1]) <= 2
    topology = domicile(xen, "topology")
    assert topology["distances"] == [[int(d) for d in distances.split(",")] for *_, distances in rows]


def test_domains_are_those_of_xl_list(xen: Lab, shown: dict[str, Any]) -> None:
    lines = xen.run(["xl", "list", "-n"]).stdout.splitlines()[1:]
    seen = {}
    for line in lines:
        name, number, memory, vcpus, *_, affinity = re.match(
            r"(.*\S) +(\d+) +(\d+) +(\d+) +(\S+) +(\S+) (.*)", line
        ).groups()  # type: ignore[union-attr]
        seen[name.strip()] = (int(number), int(memory), int(vcpus), affinity.strip())
    for domain in shown["domains"]:
        number, memory, vcpus, affinity = seen.pop(domain["name"])
        assert (domain["id"], domain["memory_mib"]) == (number, memory)
        assert sum(vcpu["online"] for vcpu in domain["vcpus"]) == vcpus
        nodes = [node["id"] for node in shown["nodes"]] if affinity == "all" else numbers(affinity)
        assert domain["node_affinity"] == nodes
    assert not seen


def test_vcpus_are_those_of_xl_vcpu_list(xen: Lab, shown: dict[str, Any]) -> None:
    everything = [cpu for node in shown["nodes"] for cpu in node["cpus"]]
    found = {
        (domain["name"], vcpu["id"]): (vcpu["hard_affinity"], vcpu["soft_affinity"])
        for domain in shown["domains"]
        for vcpu in domain["vcpus"]
    }
    seen = {}
    for line in xen.run(["xl", "vcpu-list"]).stdout.splitlines()[1:]:
        name, vcpu, hard, soft = re.match(
            r"(.*\S) +\d+ +(\d+) +\S+ +\S+ +[\d.]+ +(\S+) / (\S+)$", line.strip()
        ).groups()  # type: ignore[union-attr]
        both = [sorted(everything) if cpus == "all" else numbers(cpus) for cpus in (hard, soft)]
        seen[name.strip(), int(vcpu)] = (both[0], both[1])
    assert found == seen


def test_memory_is_where_the_dump_of_key_u_says(xen: Lab, shown: dict[str, Any]) -> None:
    xen.run(["xl", "debug-keys", "u"])
    dump = xen.run(["xl", "dmesg"]).stdout.rpartition("Memory location of each domain")[2]
    seen: dict[int, dict[str, int]] = {}
    pages: dict[str, int] = {}
    for line in dump.splitlines():
        if header := re.search(r"(?:Domain |d)(\d+) \(total: \d+\)", line):
            pages = seen[int(header[1])] = {}
        elif row := re.search(r" Node +(\d+): (\d+)", line):
            pages[row[1]] = int(row[2])
    found = {domain["id"]: domain["memory_pages"] for domain in shown["domains"]}
    # Dom0's pages come and go with the tools that look at it
    assert {n: found[n] for n in found if n} == {n: seen[n] for n in seen if n}
    assert sum(found[0].values()) == pytest.approx(sum(seen[0].values()), abs=64)


def numbers(text: str) -> list[int]:
    """`0-2,5` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
