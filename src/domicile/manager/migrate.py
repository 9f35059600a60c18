"""Moving a domain's memory to other nodes: promised, written down, begun, followed, checked page by page.

The host goes on with a move by itself, so nothing is lost when we end in the middle: whoever comes next finds it in the
journal and on the host, follows it to its end and writes down what came of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from domicile.errors import DomicileError, HostFailed, Refused
from domicile.hosts.actions import EndMove, Release, Reserve, StartMove
from domicile.hosts.protocol import Host
from domicile.local.process import this_process
from domicile.manager.balance import perform, settle_acts
from domicile.manager.intents import Act, MoveIntent, MoveStatus
from domicile.manager.journal import Journal
from domicile.manager.recovery import domain_with_uuid, seen_of
from domicile.policies.migration.records import Option, Permits, Way
from domicile.state.model import PAGES_PER_MIB, Domain, MemoryMapAge, Reservation, Snapshot
from domicile.state.moves import INCOMING, MoveEnd, MoveOrder, MoveState, MoveWay
from domicile.topology.ids import format_ids

__all__ = [
    "Begun",
    "Moved",
    "Watcher",
    "begin",
    "conclude",
    "migrate",
    "move_vcpus",
    "on_host",
    "ordered",
    "settle_moves",
    "undo_moves",
]

LOOK_S = 1.0
ELSEWHERE = 0.01
"""A guest has a few pages that Xen puts where it likes; more than this share elsewhere is told."""

Watcher = Callable[[MoveState], None]
"""Is told now and then how far a move is."""


def _unwatched(_: MoveState) -> None:
    """For who does not want to be told."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A move that ended, and what failed after it (affinity), a line each."""

    move: MoveIntent
    failed: tuple[str, ...] = ()


def ordered(snapshot: Snapshot, domain: Domain, option: Option, permits: Permits) -> MoveOrder:
    """What to order of the host so that a domain gets home on an option's nodes. Raises `Refused` where it was."""
    if option.refused:
        raise Refused(f"{domain.name}: cannot be moved to node {format_ids(option.nodes)}: {option.refused}")
    cpus = _home(snapshot, domain, option.nodes)
    held = {(each.uuid, each.vcpu): each.before for each in snapshot.holds}
    return MoveOrder(
        token=str(uuid.uuid4()),
        domain=domain.name,
        uuid=domain.uuid,
        way=MoveWay(option.way.value),
        nodes=option.nodes,
        memory_mib=max(domain.memory_mib, domain.target_mib or 0),
        after_mib=_needed(option),
        # a hold ends with the domain's id: what a vCPU has for good is what it takes along
        hard=tuple(held.get((domain.uuid, vcpu.id), vcpu.hard_affinity) for vcpu in domain.vcpus),
        soft=(cpus,) * len(domain.vcpus),
        least_mib=permits.minimum_mib or 0,
        rate_mib_s=permits.rate_mib_s,
        weight=domain.weight,
        cap_percent=domain.cap_percent,
        cpupool=domain.cpupool,
    )


def _needed(option: Option) -> Mapping[int, int]:
    """By node, what the second copy takes, Xen's own for it included."""
    twice = option.cost.twice_mib if option.cost else {}
    return {node: max(option.memory_mib.get(node, 0), twice.get(node, 0)) for node in option.nodes}


def _home(snapshot: Snapshot, domain: Domain, nodes: Sequence[int]) -> frozenset[int]:
    pool = next((pool.cpus for pool in snapshot.cpupools if pool.name == domain.cpupool), None)
    cpus = snapshot.topology.cpus_of(tuple(nodes))
    return (cpus & pool if pool else cpus) or cpus


def migrate(
    host: Host,
    journal: Journal,
    order: MoveOrder,
    reason: str,
    watch: Watcher = _unwatched,
    *,
    gain: float = 0.0,
    kind: str = "migrate",
    undoes: int = 0,
) -> Moved:
    """Carry an order out, to its end.

    Raises `Refused` or `ReservationConflict` having changed nothing; `HostFailed` where the way to the host broke: the
    host goes on, and `settle_moves` finds out later. An interrupt leaves it going on, too.
    """
    return begin(host, journal, order, reason, gain=gain, kind=kind, undoes=undoes).follow(watch)


@dataclass(frozen=True, slots=True)
class Begun:
    """A move that the host has."""

    host: Host
    journal: Journal
    move: MoveIntent

    def follow(self, watch: Watcher = _unwatched) -> Moved:
        """Wait for its end, and write down what came of it."""
        while True:
            self.host.wait(LOOK_S)
            snapshot = self.host.snapshot()
            state = on_host(snapshot, self.move)
            if state is not None:
                watch(state)
            if state is None or state.end is not None:
                return conclude(self.host, self.journal, self.move)


def begin(
    host: Host,
    journal: Journal,
    order: MoveOrder,
    reason: str,
    *,
    gain: float = 0.0,
    kind: str = "migrate",
    undoes: int = 0,
) -> Begun:
    """Promise the memory, write the move down, have the host begin it."""
    snapshot = host.snapshot(MemoryMapAge.RECENT)
    domain = domain_with_uuid(snapshot, order.uuid, order.domain)
    if domain is None:
        raise Refused(f"{order.domain}: is not there any more")
    token = str(uuid.uuid4())
    try:
        _reserve(host, snapshot, domain, order, token)
        soft = tuple(vcpu.soft_affinity for vcpu in domain.vcpus)
        known = MoveIntent(order, domain.pages_by_node, soft, reason, gain, undoes)
        [move] = journal.begin_moves(kind, "domicile", [known])
        try:
            host.perform(StartMove(order))
        except HostFailed:
            # whether it was begun is for the next to find out, who can look at the host
            raise
        except DomicileError as error:
            journal.advance_move(move, MoveStatus.FAILED, str(error))
            raise
        return Begun(host, journal, journal.advance_move(move, MoveStatus.BEGUN))
    finally:
        host.perform(Release(token))


def _reserve(host: Host, snapshot: Snapshot, domain: Domain, order: MoveOrder, token: str) -> None:
    """Promise it what it takes there; the promise passes to the move itself once that has begun."""
    # a second copy is made beside the first; who is saved or ballooned gives back first what it has there
    has = {} if order.way is MoveWay.LIVE else domain.memory_by_node_mib or {}
    need = {node: max(mib - has.get(node, 0), 0) for node, mib in order.after_mib.items()}
    short = [
        f"node {node}: {mib} MiB, {snapshot.available_mib(node)} free"
        for node, mib in need.items()
        if mib > snapshot.available_mib(node)
    ]
    if short:
        raise Refused(f"{order.domain}: no room for it there any more ({'; '.join(short)})")
    process = this_process()
    reservation = Reservation(
        token=token,
        domain=order.domain + INCOMING,
        memory_mib=need,
        vcpus=0,
        owner=str(process),
        created_at=snapshot.taken_at,
    )
    host.perform(Reserve(reservation, snapshot.reservations_generation))


def on_host(snapshot: Snapshot, move: MoveIntent) -> MoveState | None:
    """How far the host is with a move; None where it knows nothing of it."""
    return next((each for each in snapshot.moves if each.order.token == move.order.token), None)


def conclude(host: Host, journal: Journal, move: MoveIntent) -> Moved:
    """Write down what came of a move that goes on no more: where every page is, and the affinity that goes with it."""
    snapshot = host.snapshot(MemoryMapAge.NOW)
    order, state = move.order, on_host(snapshot, move)
    domain = domain_with_uuid(snapshot, order.uuid, order.domain)
    failed: list[str] = []
    if domain is None:
        why = state.why if state else ""
        if order.uuid in snapshot.saved:
            why = "it is saved on the host, under /var/lib/xen/domicile: start it with `xl restore`"
        ended = journal.advance_move(move, MoveStatus.LOST, why or "the domain is not there any more")
    else:
        status, why = _judged(move, state, domain)
        if status in {MoveStatus.MOVED, MoveStatus.PARTLY}:
            # while the journal has it as going on: whoever comes after a crash does the rest of this
            soft = _soft_after(journal, move)
            if soft:
                settle_acts(snapshot, journal, lambda plan: plan != move.plan)
                failed = _set_soft(host, journal, domain, soft, "its memory has moved", move.plan)[1]
            _rewrite(journal, domain, order, soft or order.soft)
        ended = journal.advance_move(move, status, why, domain.pages_by_node)
    host.perform(EndMove(order.token))
    return Moved(ended, tuple(failed))


def _judged(move: MoveIntent, state: MoveState | None, domain: Domain) -> tuple[MoveStatus, str]:
    """How it ended, and why: by what the host says, and by where the pages are."""
    order, pages = move.order, domain.pages_by_node
    total = sum(pages.values()) if pages else 0
    there = sum((pages or {}).get(node, 0) for node in order.nodes)
    all_there = total > 0 and total - there <= ELSEWHERE * total
    if state is None:
        if move.status is MoveStatus.PLANNED:
            return MoveStatus.FAILED, "it was never begun"
        # the host was restarted, or somebody took note of it: what counts is where its memory is
        return MoveStatus.MOVED if all_there else MoveStatus.FAILED, "the host has forgotten it"
    if state.end is not MoveEnd.MOVED:
        # whatever the host made of it, the domain is there
        return MoveStatus.FAILED, state.why
    if pages is None:
        return MoveStatus.MOVED, "no memory map tells where its pages are"
    if order.way is MoveWay.BALLOON:
        before = sum((move.before or {}).get(node, 0) for node in order.nodes)
        why = f"{(there - before) // PAGES_PER_MIB} of {total // PAGES_PER_MIB} MiB moved: what the guest could free"
    else:
        why = "" if all_there else f"{total - there} of {total} pages are elsewhere: Xen had no room for them there"
    return MoveStatus.MOVED if all_there else MoveStatus.PARTLY, why


def _set_soft(
    host: Host, journal: Journal, domain: Domain, soft: Sequence[frozenset[int]], why: str, plan: int = 0
) -> tuple[int, list[str]]:
    """Give its vCPUs this soft affinity. The plan's number (0 where nothing is to be changed), and what failed."""
    wanted = [
        Act(domain.name, domain.uuid, vcpu.id, vcpu.soft_affinity, cpus, why)
        for vcpu, cpus in zip(domain.vcpus, soft, strict=True)
        if vcpu.soft_affinity != cpus
    ]
    failed: list[str] = []
    acts = journal.begin_acts("migrate", "domicile", wanted, plan) if wanted else ()
    for act in acts:
        perform(host, journal, act, failed)
    return (acts[0].plan if acts else 0), failed


def _soft_after(journal: Journal, move: MoveIntent) -> tuple[frozenset[int], ...] | None:
    """The soft affinity that its vCPUs are to get when the memory has moved; None where they have it by then.

    What is put back goes to its nodes by an affinity to these: Xen takes memory where the vCPUs are to run, and they
    may have been sent elsewhere before.
    """
    if move.undoes:
        return next((each.soft for each in journal.moves() if each.id == move.undoes), None)
    return move.order.soft if move.order.way is MoveWay.BALLOON else None


def _rewrite(journal: Journal, domain: Domain, order: MoveOrder, soft: tuple[frozenset[int], ...] | None) -> None:
    """A domain that we had started is to be where it is now."""
    for intent in journal.active():
        if intent.wanted.uuid == order.uuid:
            memory = domain.memory_by_node_mib or dict(order.after_mib)
            wanted = replace(
                intent.wanted,
                nodes=order.nodes,
                memory_mib=memory,
                soft_affinity=soft or intent.wanted.soft_affinity,
            )
            if wanted != intent.wanted:
                journal.rewrite(intent, wanted, seen_of(domain), f"moved to node {format_ids(order.nodes)}")


def move_vcpus(
    host: Host, journal: Journal, snapshot: Snapshot, domain: Domain, nodes: Sequence[int], why: str
) -> tuple[int, list[str]]:
    """Bring a domain's vCPUs to its memory: soft affinity alone. The plan's number (0 for none), and what failed."""
    return _set_soft(host, journal, domain, (_home(snapshot, domain, nodes),) * len(domain.vcpus), why)


def settle_moves(snapshot: Snapshot, host: Host, journal: Journal) -> list[Moved]:
    """Bring moves to an end that were left undecided: those that the host has done with. Those that it goes on with
    stay pending.
    """
    moves = journal.moves()
    ended = {move.order.token for move in moves if not move.pending}
    for known in snapshot.moves:
        if known.end is not None and known.order.token in ended:
            # written down, and its manager died before the host heard of it
            host.perform(EndMove(known.order.token))
    found = []
    for move in [each for each in moves if each.pending]:
        state = on_host(snapshot, move)
        if state is None or state.end is not None:
            found.append(conclude(host, journal, move))
        elif move.status is MoveStatus.PLANNED:
            journal.advance_move(move, MoveStatus.BEGUN)
    return found


def undo_moves(
    host: Host,
    journal: Journal,
    plan: int,
    find: Callable[[Snapshot, Domain, tuple[int, ...], Way], Option],
    permits: Permits,
    watch: Watcher = _unwatched,
) -> list[Moved]:
    """Bring the memory of a plan's domains back to the nodes that it was on, the last move first, in the same way.

    `find` gives the option for that. Raises `Refused` where it cannot be done.
    """
    found = []
    for move in reversed(
        [each for each in journal.moves(plan) if each.status in {MoveStatus.MOVED, MoveStatus.PARTLY}]
    ):
        snapshot = host.snapshot(MemoryMapAge.RECENT)
        domain = domain_with_uuid(snapshot, move.order.uuid, move.order.domain)
        if domain is None or not move.before:
            raise Refused(f"{move.order.domain}: cannot be put back: it is not there, or it is not known where it was")
        most = max(move.before.values())
        nodes = tuple(sorted(node for node, pages in move.before.items() if pages > ELSEWHERE * most))
        option = find(snapshot, domain, nodes, Way(move.order.way.value))
        order = ordered(snapshot, domain, option, permits)
        found.append(migrate(host, journal, order, f"plan {plan} is undone", watch, kind="undo", undoes=move.id))
    return found
