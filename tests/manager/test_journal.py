"""Intents before acts, observations after, and nothing ever lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sim_faults import kill_me, killed, run_in_child

from domicile.errors import HostFailed, Refused
from domicile.local.paths import STATE_VARIABLE
from domicile.local.process import NOBODY, is_alive, this_process
from domicile.manager.intents import IntentStatus, Seen, Wanted
from domicile.manager.journal import Journal

WANTED = Wanted(
    domain="web1",
    uuid="11111111-2222-3333-4444-555555555555",
    nodes=(0, 2),
    memory_mib={0: 128, 2: 128},
    soft_affinity=(frozenset({0, 1, 4, 5}),) * 2,
    vcpus=2,
    cpupool="Pool-0",
    config_digest="d" * 64,
)
SEEN = Seen({0: 32768, 2: 32768}, {0: frozenset({0}), 1: frozenset({1})}, {0: frozenset({4}), 1: frozenset({5})})
HOST = "xen+ssh://host7/ 5f3c"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def journal() -> Iterator[Journal]:
    with Journal.for_host(HOST) as opened:
        yield opened


def advance(journal: Journal, intent: int, *statuses: IntentStatus) -> None:
    for status in statuses:
        journal.advance(intent, status)


def test_a_life(journal: Journal) -> None:
    (intent,) = journal.begin("create", "domicile", [WANTED])
    assert (intent.status, intent.wanted, intent.seen) == (IntentStatus.PLANNED, WANTED, None)
    assert intent.owner == this_process()
    journal.advance(intent.id, IntentStatus.CREATING)
    journal.observe(intent.id, SEEN)
    assert journal.pending()[0].seen == SEEN
    active = journal.advance(intent.id, IntentStatus.ACTIVE)
    assert journal.active() == (active,)
    assert active.seen == SEEN
    assert journal.pending() == ()
    kinds = [event.kind for event in journal.events()]
    assert kinds == ["plan-create", "planned", "creating", "observed", "active"]
    planned, observed = journal.events()[1], journal.events()[3]
    assert planned.detail["memory_mib"] == {"0": 128, "2": 128}
    assert observed.detail["pages_by_node"] == {"0": 32768, "2": 32768}
    assert {event.plan for event in journal.events()} == {intent.plan}


def test_survives_and_is_the_users_alone(folder: Path) -> None:
    with Journal.for_host(HOST) as journal:
        journal.begin("create", "domicile", [WANTED])
        path = journal.path
        assert path.parent == folder / "hosts"
        assert all(each.stat().st_mode & 0o077 == 0 for each in [path, path.parent, *path.parent.iterdir()])
    with Journal.for_host(HOST) as journal:
        assert journal.pending()[0].wanted == WANTED


def test_hosts_are_kept_apart(folder: Path, journal: Journal) -> None:
    journal.begin("create", "domicile", [WANTED])
    with Journal.for_host(HOST + "0") as other:
        assert other.intents() == ()
    with pytest.raises(HostFailed, match=r"is the journal of xen\+ssh://host7/ 5f3c, not of elsewhere"):
        Journal(journal.path, "elsewhere")


@pytest.mark.parametrize(
    ("way", "step"),
    [
        ([], IntentStatus.ACTIVE),
        ([], IntentStatus.ACKNOWLEDGED),
        ([IntentStatus.FAILED], IntentStatus.CREATING),
        ([IntentStatus.CREATING, IntentStatus.ACTIVE], IntentStatus.FAILED),
        ([IntentStatus.CREATING, IntentStatus.ACTIVE], IntentStatus.CREATING),
        ([IntentStatus.CREATING], IntentStatus.SUPERSEDED),
    ],
)
def test_steps_that_cannot_be(journal: Journal, way: list[IntentStatus], step: IntentStatus) -> None:
    (intent,) = journal.begin("create", "domicile", [WANTED])
    advance(journal, intent.id, *way)
    before = (journal.intents(), journal.events())
    with pytest.raises(HostFailed, match=f"cannot become {step}"):
        journal.advance(intent.id, step)
    assert (journal.intents(), journal.events()) == before


def test_started_again_it_replaces_the_old_intent(journal: Journal) -> None:
    ids = []
    for wanted in (WANTED, replace(WANTED, uuid="new"), replace(WANTED, uuid="new", domain="web2")):
        (intent,) = journal.begin("create", "domicile", [wanted])
        advance(journal, intent.id, IntentStatus.CREATING, IntentStatus.ACTIVE)
        ids.append(intent.id)
    assert [intent.id for intent in journal.active()] == ids[-1:]
    assert [intent.status for intent in journal.intents()[:2]] == [IntentStatus.SUPERSEDED] * 2
    assert journal.intents()[0].reason == f"started again by intent {ids[1]}"


def test_a_start_that_failed_leaves_the_old_intent(journal: Journal) -> None:
    (old,) = journal.begin("create", "domicile", [WANTED])
    advance(journal, old.id, IntentStatus.CREATING, IntentStatus.ACTIVE)
    (new,) = journal.begin("create", "domicile", [replace(WANTED, uuid="new")])
    journal.advance(new.id, IntentStatus.FAILED, "no kernel")
    assert [intent.id for intent in journal.active()] == [old.id]


def test_one_start_at_a_time(journal: Journal) -> None:
    journal.begin("create", "domicile", [WANTED])
    with pytest.raises(Refused, match=f"web1: is being started already by {this_process()}"):
        journal.begin("create", "domicile", [replace(WANTED, domain="other"), WANTED])
    assert len(journal.intents()) == 1


def test_forgotten(journal: Journal) -> None:
    (intent,) = journal.begin("create", "domicile", [WANTED])
    assert not journal.forget("web1")
    advance(journal, intent.id, IntentStatus.CREATING, IntentStatus.ACTIVE)
    assert journal.forget("web1")
    assert not journal.forget("web1")
    assert journal.active() == ()
    assert journal.intents()[0].status is IntentStatus.ACKNOWLEDGED


def test_events_never_change(journal: Journal) -> None:
    journal.note("hello", {"a": 1})
    with sqlite3.connect(journal.path) as connection:
        for statement in ("UPDATE events SET kind = 'x'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="events are never"):
                connection.execute(statement)
    connection.close()
    (event,) = journal.events()
    assert (event.kind, event.detail, event.intent) == ("hello", {"a": 1}, None)
    assert journal.events(after=event.id) == ()


def test_an_owner_that_died_can_be_relieved_once(journal: Journal) -> None:
    def act() -> None:
        with Journal.for_host(HOST) as mine:
            mine.begin("create", "domicile", [WANTED])
            kill_me()

    assert killed(run_in_child(act))
    (orphan,) = journal.pending()
    assert not is_alive(orphan.owner)
    claimed = journal.claim(orphan)
    assert claimed is not None
    assert claimed.owner == this_process()
    assert journal.claim(orphan) is None
    abandoned = journal.abandon(claimed)
    assert abandoned is not None
    assert abandoned.owner == NOBODY
    journal.advance(orphan.id, IntentStatus.FAILED)
    assert journal.claim(abandoned) is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE intents SET wanted = '{'",
        "UPDATE intents SET status = 'planned', owner = '7'",
        "UPDATE intents SET wanted = X'ff00'",
    ],
)
def test_damage_is_named(journal: Journal, statement: str) -> None:
    journal.begin("create", "domicile", [WANTED])
    with sqlite3.connect(journal.path) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(HostFailed, match=r"is no usable journal .*; remove it with: rm -f"):
        journal.pending()
