"""Memory on its way between the nodes of a simulated host, as Xen's tools do it.

- live: a second copy of the domain is built on the new nodes, page by page, while the first runs. When all is there,
  the copies change places: the domain has a new id. What was written meanwhile is not copied again, and the copying
  takes no bandwidth: `domicile.simulator.migrations` models both, in scenarios.
- save: the domain stands still while it is written to a file, is gone then, and is built anew from that.
- balloon: the guest gives back what it can, and takes it again from its new node-affinity.

Where a node is full, Xen takes pages of others without a word, and so does this.
"""

from __future__ import annotations

from dataclasses import replace

from domicile.errors import Refused
from domicile.hosts.simulated.ballooning import grown, pages_of, shrunk
from domicile.hosts.simulated.memory import take_pages
from domicile.hosts.simulated.state import Resident, SimulatedState
from domicile.state.model import PAGES_PER_MIB, DomainType, Vcpu
from domicile.state.moves import INCOMING, MoveEnd, MoveOrder, MoveState, MoveWay

__all__ = ["end_move", "goes_on", "is_saved", "is_second_copy", "moved_on", "start_move"]

FASTEST_MIB_S = 1024.0
COPYING, SAVING, RESTORING, CALLED_OFF = "copying", "saving", "restoring", "called off"
GIVING, TAKING = "giving back", "taking"


def start_move(state: SimulatedState, order: MoveOrder) -> SimulatedState:
    """The host with a move begun. Raises `Refused`."""
    resident = state.resident(order.domain)
    if resident is None or resident.domain.uuid != order.uuid:
        raise Refused(f"{order.domain}: no domain of this name and UUID {order.uuid} is there")
    if resident.domain.id == 0:
        raise Refused("Dom0 is not moved")
    if state.move(order.token):
        raise Refused(f"{order.domain}: there is a move {order.token} already")
    if any(each.end is None and each.order.uuid == order.uuid for each in state.moves):
        raise Refused(f"{order.domain}: is being moved already")
    unknown = sorted({*order.nodes} - {*state.machine.capacity_pages})
    if unknown or not order.nodes:
        raise Refused(f"{order.domain}: cannot be moved to nodes {unknown or 'none'}, which are not there")
    return state.with_move(MoveState(order))


def end_move(state: SimulatedState, token: str) -> SimulatedState:
    """The host with an ended move forgotten, or one that goes on called off."""
    move = state.move(token)
    if move is None:
        return state
    if move.end is not None:
        return replace(state, moves=tuple(each for each in state.moves if each is not move))
    if move.stage in {RESTORING, TAKING}:
        # there is no way back but the end of it
        return state
    if move.stage in {SAVING, COPYING, ""}:
        return _ended(
            _without_second_copy(_awake(state, move.order), move.order), move, MoveEnd.FAILED, "it was called off"
        )
    return state.with_move(replace(move, stage=TAKING))


def goes_on(state: SimulatedState) -> bool:
    """Whether memory is on its way."""
    return any(move.end is None for move in state.moves)


def is_second_copy(state: SimulatedState, resident: Resident) -> bool:
    """Whether it is what a live migration is building."""
    return any(_second_name(move.order) == resident.domain.name for move in state.moves if move.end is None)


def is_saved(state: SimulatedState, move: MoveState) -> bool:
    """Whether its domain is nowhere but in a file."""
    return move.stage == RESTORING and _there(state, move.order) is None


def moved_on(state: SimulatedState, seconds: float) -> SimulatedState:
    """The host with its moves so much further."""
    for move in state.moves:
        if move.end is None:
            state = _STEPS[move.order.way](state, move, seconds)
    return state


def _live(state: SimulatedState, move: MoveState, seconds: float) -> SimulatedState:
    order = move.order
    source = _there(state, order)
    if source is None:
        return _ended(_without_second_copy(state, order), move, MoveEnd.LOST, "the domain ended by itself")
    if source.domain.type is DomainType.PV:
        return _ended(state, move, MoveEnd.FAILED, "Xen cannot tell which pages of a PV domain are written")
    second = state.resident(_second_name(order)) or _second(state, source, order)
    state = state.with_resident(second)
    room = sum(max(free, 0) for free in state.free_pages.values())
    # a guest that gave memory back meanwhile has less than was copied
    second = shrunk(second, max(pages_of(second) - pages_of(source), 0))
    pages = min(_due_pages(move, seconds), pages_of(source) - pages_of(second))
    if pages > room:
        return _ended(
            _without_second_copy(state, order), move, MoveEnd.FAILED, "the host has no memory left for a second copy"
        )
    second = grown(state, second, pages)
    state = state.with_resident(second)
    if pages_of(second) < pages_of(source):
        done = pages_of(second) // PAGES_PER_MIB
        return state.with_move(replace(move, stage=COPYING, done_mib=done, taken_mib=done))
    gone = replace(state, residents=tuple(each for each in state.residents if each is not source and each != second))
    return _ended(gone.with_resident(_running(second, source, source.domain.name)), move, MoveEnd.MOVED, "")


def _save(state: SimulatedState, move: MoveState, seconds: float) -> SimulatedState:
    return _restoring(state, move, seconds) if move.stage == RESTORING else _saving(state, move, seconds)


def _saving(state: SimulatedState, move: MoveState, seconds: float) -> SimulatedState:
    order = move.order
    here = _there(state, order)
    if here is None:
        return _ended(state, move, MoveEnd.LOST, "the domain ended by itself")
    state = state.with_resident(replace(here, domain=replace(here.domain, paused=True)))
    done = min(move.done_mib + round(_rate(order) * seconds), order.memory_mib)
    if done < order.memory_mib:
        return state.with_move(replace(move, stage=SAVING, done_mib=done))
    # as it was, for when it is built anew: it takes no memory, and is in nobody's way
    second = replace(_second(state, here, order), owner=None)
    without = replace(state, residents=tuple(each for each in state.residents if each.domain.id != here.domain.id))
    without = without.with_resident(second)
    return without.with_move(replace(move, stage=RESTORING, done_mib=0))


def _restoring(state: SimulatedState, move: MoveState, seconds: float) -> SimulatedState:
    order = move.order
    second_here = state.resident(_second_name(order))
    if second_here is None:
        return _ended(state, move, MoveEnd.LOST, "the domain ended by itself")
    if state.resident(order.domain):
        why = "another domain has its name meanwhile"
        return _ended(_without_second_copy(state, order), move, MoveEnd.LOST, why)
    whole = order.memory_mib * PAGES_PER_MIB
    pages = min(_due_pages(move, seconds), whole - pages_of(second_here))
    if pages > sum(max(free, 0) for free in state.free_pages.values()):
        why = "the host has no memory left to build it anew"
        return state.with_move(replace(move, why=why))
    second = grown(state, second_here, pages)
    if pages_of(second) < whole:
        done = pages_of(second) // PAGES_PER_MIB
        return state.with_resident(second).with_move(replace(move, done_mib=done, taken_mib=done))
    without = replace(state, residents=tuple(each for each in state.residents if each is not second_here))
    return _ended(without.with_resident(_running(second, second_here, order.domain)), move, MoveEnd.MOVED, "")


def _balloon(state: SimulatedState, move: MoveState, seconds: float) -> SimulatedState:
    order = move.order
    here = _there(state, order)
    if here is None:
        return _ended(state, move, MoveEnd.LOST, "the domain ended by itself")
    answers = here.balloon.rate_mib_s > 0
    step = round(here.balloon.rate_mib_s * seconds * PAGES_PER_MIB)
    whole = order.memory_mib * PAGES_PER_MIB
    if move.stage != TAKING:
        domain = replace(here.domain, node_affinity=frozenset(order.nodes), target_mib=order.least_mib)
        here = replace(here, domain=domain, affinity_follows=False)
        least = max(order.least_mib * PAGES_PER_MIB, round(whole * here.balloon.keeps))
        given = min(step, max(pages_of(here) - least, 0))
        here = shrunk(here, given)
        stage = GIVING if given else TAKING
        if stage is TAKING and not answers and move.done_mib + seconds < order.limit_s:
            # for want of anything given, the time that it was waited for
            return state.with_resident(here).with_move(
                replace(move, stage=GIVING, done_mib=round(move.done_mib + seconds))
            )
        done = (whole - pages_of(here)) // PAGES_PER_MIB // 2
        return state.with_resident(here).with_move(replace(move, stage=stage, done_mib=done if answers else 0))
    here = replace(here, domain=replace(here.domain, target_mib=order.memory_mib))
    room = sum(max(free, 0) for free in state.free_pages.values())
    taken = min(step, whole - pages_of(here), room)
    here = grown(state, here, taken)
    state = state.with_resident(here)
    if not answers:
        return _ended(state, move, MoveEnd.FAILED, "the guest gave nothing back")
    if pages_of(here) < whole:
        done = (order.memory_mib + pages_of(here) // PAGES_PER_MIB) // 2
        return state.with_move(replace(move, stage=TAKING, done_mib=done))
    return _ended(state, move, MoveEnd.MOVED, "")


_STEPS = {MoveWay.LIVE: _live, MoveWay.SAVE: _save, MoveWay.BALLOON: _balloon}


def _ended(state: SimulatedState, move: MoveState, end: MoveEnd, why: str) -> SimulatedState:
    done = move.order.memory_mib if end is MoveEnd.MOVED else move.done_mib
    return state.with_move(replace(move, end=end, why=why, done_mib=done))


def _rate(order: MoveOrder) -> float:
    return min(order.rate_mib_s or FASTEST_MIB_S, FASTEST_MIB_S)


def _due_pages(move: MoveState, seconds: float) -> int:
    return max(round(_rate(move.order) * seconds * PAGES_PER_MIB), 1)


def _there(state: SimulatedState, order: MoveOrder) -> Resident | None:
    """The domain itself, whatever it is called by now: Xen's tools know it by its number."""
    second = _second_name(order)
    own = (each for each in state.residents if each.domain.uuid == order.uuid and each.domain.name != second)
    return next(own, None)


def _second_name(order: MoveOrder) -> str:
    return order.domain + INCOMING


def _second(state: SimulatedState, source: Resident, order: MoveOrder) -> Resident:
    """What is built beside a domain: its twin, paused, with Xen's own memory for it and none of its own yet."""
    domain = source.domain
    vcpus = tuple(_with_affinity(vcpu, order) for vcpu in domain.vcpus)
    nodes = frozenset(order.nodes)
    overhead = sum(source.overhead_pages.values())
    free = {node: max(pages, 0) for node, pages in state.free_pages.items()}
    return replace(
        source,
        domain=replace(
            domain,
            id=state.next_id,
            name=_second_name(order),
            vcpus=vcpus,
            pages_by_node={},
            memory_mib=0,
            node_affinity=nodes,
            paused=True,
            work_ns=None,
            waited_ns=None,
        ),
        overhead_pages=take_pages(overhead, free, nodes) if overhead <= sum(free.values()) else {},
        affinity_follows=False,
    )


def _with_affinity(vcpu: Vcpu, order: MoveOrder) -> Vcpu:
    hard = order.hard[vcpu.id] if order.hard else vcpu.hard_affinity
    soft = order.soft[vcpu.id] if order.soft else vcpu.soft_affinity
    return replace(vcpu, hard_affinity=hard, soft_affinity=soft, pcpu=None, running=False, time_ns=None, waiting=None)


def _running(second: Resident, source: Resident, name: str) -> Resident:
    """The second copy in its domain's place, under its name."""
    domain = second.domain
    return replace(
        second,
        domain=replace(
            domain,
            name=name,
            paused=False,
            memory_mib=pages_of(second) // PAGES_PER_MIB,
            max_memory_mib=source.domain.max_memory_mib,
        ),
        owner=None,
    )


def _awake(state: SimulatedState, order: MoveOrder) -> SimulatedState:
    """With the domain running on that was to be saved."""
    here = _there(state, order)
    if here is None or order.way is not MoveWay.SAVE:
        return state
    return state.with_resident(replace(here, domain=replace(here.domain, paused=False)))


def _without_second_copy(state: SimulatedState, order: MoveOrder) -> SimulatedState:
    """Without what a move that ends here had built."""
    name = _second_name(order)
    return replace(state, residents=tuple(each for each in state.residents if each.domain.name != name))
