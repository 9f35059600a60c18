"""`domicile place --pool` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from domicile.cli.main import main
from domicile.errors import BadInput

HOST = {"name": "h1", "machine": "4node"}
GUEST = {"name": "web1", "vcpus": 2, "memory_mib": 512}


def files(folder: Path, hosts: list[object], guests: list[object]) -> tuple[str, str]:
    """A file of hosts and one of guests; what is no dictionary is a line as it is."""
    paths = folder / "hosts.jsonl", folder / "guests.jsonl"
    for path, records in zip(paths, (hosts, guests), strict=True):
        path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in records))
    return str(paths[0]), str(paths[1])


def place(hosts: str, *arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["place", "--pool", hosts, *arguments], input=stdin, env={"COLUMNS": "100"})


def test_a_line_for_each_guest(tmp_path: Path) -> None:
    hosts, guests = files(
        tmp_path,
        [HOST | {"free_mib": [100, 2048, 2048, 2048], "load_vcpus": [0, 2, 0, 0]}, "", HOST | {"name": "h2"}],
        [GUEST, GUEST | {"name": "wide", "vcpus": 8, "memory_mib": 4000}, GUEST | {"name": "tiny", "load_vcpus": 0.1}],
    )
    done = place(hosts, guests, "--json")
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["domain"] for line in lines] == ["web1", "wide", "tiny"]
    assert lines[0] == {
        "domain": "web1", "host": "h1", "nodes": [2], "memory_mib": {"2": 512},
        "predicted_slowdown": lines[0]["predicted_slowdown"],
    }  # fmt: skip
    assert lines[0]["predicted_slowdown"] >= 1.0
    assert lines[1]["host"] == "h2"
    assert len(lines[1]["nodes"]) > 1
    assert sum(lines[1]["memory_mib"].values()) == 4000


def test_a_table_for_people_and_exit_1_where_one_fits_nowhere(tmp_path: Path) -> None:
    big = [GUEST | {"name": f"big{number}", "memory_mib": 8000} for number in range(11)]
    hosts, guests = files(tmp_path, [HOST, HOST | {"name": "h2"}], [GUEST, *big])
    done = place(hosts, guests)
    assert done.exit_code == 1
    assert "2 of 12" in done.stdout
    assert "10 refused" in done.stdout
    assert "big1: needs 8000 MiB; h1 had most for it, 7680 MiB" in done.stdout
    assert "and 2 more; --json names all" in done.stdout
    assert "worst" in done.stdout
    again = place(hosts, guests, "--json")
    assert again.exit_code == 1
    refused = [json.loads(line) for line in again.stdout.splitlines() if '"host":null' in line]
    assert len(refused) == 10
    assert refused[0]["reason"].startswith("needs 8000 MiB")


def test_guests_from_xl_cfg_files_and_standard_input(tmp_path: Path) -> None:
    hosts, _ = files(tmp_path, [HOST], [])
    config = tmp_path / "db.cfg"
    config.write_text('name = "db"\ntype = "pvh"\nkernel = "/k"\nvcpus = 2\nmemory = 1024\n')
    done = place(hosts, str(config), "-", "--json", stdin=json.dumps(GUEST))
    assert done.exit_code == 0, done.output
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["domain"] == "db"
    assert sum(first["memory_mib"].values()) > 1024
    assert second["domain"] == "web1"


def test_a_machine_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "box.toml").write_text("nodes = 1\ncores_per_node = 2\nmemory_mib = 4096\n")
    inline = {"nodes": 2, "cores_per_node": 4, "memory_mib": 8192}
    hosts, guests = files(
        tmp_path, [{"name": "a", "machine": "box.toml"}, {"name": "b", "machine": inline}], [GUEST | {"vcpus": 4}]
    )
    done = place(hosts, guests, "--json")
    assert json.loads(done.stdout)["host"] == "b"


@pytest.mark.parametrize(
    ("hosts", "guests", "problem"),
    [
        ([], [GUEST], "hosts.jsonl: no host in it"),
        ([HOST], [], "guests.jsonl: no guest in it"),
        ([HOST, HOST], [GUEST], "hosts.jsonl: line 2: name: 'h1' is the name of the host in line 1 already"),
        ([HOST], [GUEST, GUEST], "guests.jsonl: line 2: name: 'web1' is the name of a guest in"),
        ([HOST | {"machine": "5node"}], [GUEST], "hosts.jsonl: line 1: machine: 5node"),
        ([HOST | {"free_mib": [1]}], [GUEST], "line 1: free_mib: 1 figures for the 4 nodes"),
        ([HOST | {"free_mib": [1, 2, 3, 9999]}], [GUEST], "line 1: free_mib: 9999 MiB free on node 3, which has 2048"),
        ([HOST | {"free": [1]}], [GUEST], "hosts.jsonl: line 1: free: no such key; did you mean 'free_mib'?"),
        ([HOST], ["", GUEST | {"vcpus": 0}], "guests.jsonl: line 2: vcpus: "),
        ([HOST], [GUEST | {"vcpus": "two"}], "guests.jsonl: line 1: vcpus: Expected `int`, got `str`"),
        ([HOST], [GUEST | {"load_vcpus": 3}], "line 1: load_vcpus: 3 of 2 vCPUs cannot be busy"),
        ([HOST], ["{]"], "guests.jsonl: line 1: not JSON"),
        (["[1]"], [GUEST], "hosts.jsonl: line 1: Expected `object`, got `array`"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, hosts: list[object], guests: list[object], problem: str) -> None:
    done = place(*files(tmp_path, hosts, guests))
    assert isinstance(done.exception, BadInput), done.output
    assert done.exception.exit_status == 2
    assert problem in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_guest_with_a_place_of_its_own_is_none_of_a_pool_s(tmp_path: Path) -> None:
    hosts, _ = files(tmp_path, [HOST], [])
    config = tmp_path / "db.cfg"
    config.write_text('name = "db"\ntype = "pvh"\nkernel = "/k"\nmemory = 512\ncpus = "0-1"\n')
    done = place(hosts, str(config))
    assert isinstance(done.exception, BadInput)
    assert done.exception.place == "cpus"


def test_what_is_for_one_host_does_not_go_with_a_pool(tmp_path: Path) -> None:
    done = place(*files(tmp_path, [HOST], [GUEST]), "--exact")
    assert isinstance(done.exception, BadInput)
    assert str(done.exception) == "--pool: does not go together with --exact; leave one of them out"


def test_files_that_are_not_there(tmp_path: Path) -> None:
    done = place(str(tmp_path / "none"), "-")
    assert isinstance(done.exception, BadInput)
    assert "cannot be read: No such file" in str(done.exception)
