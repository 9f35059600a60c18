"""`domicile migrate`, `balance`, `undo`, `history` and `show`, as somebody meets them who moves memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from domicile.cli.main import main
from domicile.errors import BadInput, Refused
from domicile.hosts.actions import CreatePaused, SetAffinity, StartMove, Unpause
from domicile.hosts.open import open_host
from domicile.hosts.simulated import SimulatedHost
from domicile.local.paths import STATE_VARIABLE
from domicile.manager.intents import ActStatus
from domicile.manager.journal import Journal
from domicile.state.model import DomainType
from domicile.state.moves import MoveOrder, MoveWay

URI = "sim:///4node"


@pytest.fixture(autouse=True)
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two guests of 256 MiB on node 1: a PVH and a PV one."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("DOMICILE_URI", URI)
    with open_host(URI) as host:
        for name, kind in (("web", "pvh"), ("old", "pv")):
            text = f'name="{name}"\ntype="{kind}"\nvcpus=2\nmemory=256\nkernel="/k"\ncpus_soft="2-3"\n'
            host.perform(CreatePaused(name, text))
            host.perform(Unpause(name))


def domicile(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def home(name: str) -> dict[int, int]:
    with open_host(URI) as host:
        domain = host.snapshot().domain(name)
    assert domain is not None
    return dict(domain.memory_by_node_mib or {})


def test_the_ways_are_told_with_their_costs_and_why_not() -> None:
    result = domicile("migrate", "old", "--to", "2", "--dry-run")
    assert result.exit_code == 1
    assert "live: no: it is PV" in result.output
    assert "may for 0 s" in result.output
    assert home("old") == {1: 256}
    ways = json.loads(domicile("migrate", "web", "--to", "2", "--dry-run", "--json").output)["ways"]
    assert [way["way"] for way in ways if way["refused"] is None] == ["live"]
    assert ways[0]["cost"]["twice_mib"]["2"] >= 256


def test_it_moves_tells_and_is_undone() -> None:
    result = domicile("migrate", "web", "--to", "2")
    assert result.exit_code == 0
    assert result.output == "web: moved to node 2\nplan 1: `domicile undo 1` puts it back\n"
    assert home("web") == {2: 256}
    assert "web to node 2 (live)" in domicile("history").output
    assert domicile("undo").output == "web: moved to node 1\n"
    assert home("web") == {1: 256}
    result = domicile("migrate", "old", "--to", "0,2", "--pause", "60", "--json")
    told = json.loads(result.output)
    assert (told["status"], told["way"]) == ("moved", "save")
    assert home("old") == {0: 128, 2: 128}


def test_an_undo_that_was_killed_is_brought_to_its_end() -> None:
    """Without naming the plan: what was being put back is neither done nor undone when the next one comes."""
    soft = {vcpu: frozenset({4, 5}) for vcpu in (0, 1)}
    with open_host(URI) as host:
        for vcpu, cpus in soft.items():
            host.perform(SetAffinity("web", vcpu, soft=cpus))
    assert domicile("migrate", "web", "--to", "1").exit_code == 0
    with open_host(URI) as host, Journal.for_host(host.snapshot().host_id) as journal:
        for act in journal.acts():
            journal.end_act(act, ActStatus.UNDOING)
    result = domicile("undo")
    assert result.exit_code == 0, result.output
    with open_host(URI) as host:
        domain = host.snapshot().domain("web")
    assert domain is not None
    assert {vcpu.id: vcpu.soft_affinity for vcpu in domain.vcpus} == soft


@pytest.mark.parametrize(
    ("arguments", "kind", "problem"),
    [
        (("nobody", "--to", "1"), BadInput, "no domain is called nobody; those that run: web, old"),
        (("web", "--to", "x"), BadInput, "give node ids"),
        (("web", "--to", ""), BadInput, "names no node"),
        (("web", "--to", "9"), Refused, "this host has no node 9"),
        (("Domain-0", "--to", "1"), Refused, "Dom0's place"),
        (("old", "--to", "2"), Refused, "cannot be moved"),
        (("web", "--to", "2", "--way", "balloon"), Refused, "nobody says how far"),
    ],
)
def test_what_cannot_be(arguments: tuple[str, ...], kind: type[Exception], problem: str) -> None:
    result = domicile("migrate", *arguments)
    assert isinstance(result.exception, kind)
    assert problem in str(result.exception)
    assert home("web") == {1: 256}


def test_a_plan_that_there_is_not_cannot_be_undone() -> None:
    problem = domicile("undo", "99").exception
    assert isinstance(problem, BadInput)
    assert str(problem) == "plan 99: there is none; see domicile history"


def test_show_tells_of_what_moves() -> None:
    with open_host(URI) as host:
        domain = host.snapshot().domain("web")
        assert domain is not None
        order = MoveOrder("t", "web", domain.uuid, MoveWay.LIVE, (3,), 256, {3: 260}, rate_mib_s=50.0)
        host.perform(StartMove(order))
        host.wait(2)
    assert "moving web to node 3 (live): copying, 100 MiB of 256 MiB" in domicile("show").output
    [move] = json.loads(domicile("show", "--json").output)["moves"]
    assert (move["domain"], move["done_mib"], move["end"]) == ("web", 100, None)


def test_balance_moves_memory_off_a_crowded_node() -> None:
    with open_host(URI) as host:
        assert isinstance(host, SimulatedHost)
        host.alter("old", lambda domain: replace(domain, type=DomainType.PVH))
    for _ in range(3):
        result = domicile("balance")
        assert result.exit_code == 0, result.output
    assert len({max(home(name), key=lambda node: home(name)[node]) for name in ("web", "old")}) == 2
    assert any(plan["what"].endswith("(live)") for plan in json.loads(domicile("history", "--json").output)["plans"])
