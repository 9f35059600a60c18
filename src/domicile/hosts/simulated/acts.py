"""What each action makes of a simulated host: pure functions from state to state.

An action that cannot be carried out raises and has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from domicile.errors import Halted, Refused, ReservationConflict
from domicile.hosts.actions import (
    Action,
    CreatePaused,
    Destroy,
    EndMove,
    Halt,
    Hold,
    Lease,
    LetGo,
    Manage,
    Release,
    Reserve,
    SetAffinity,
    SetMemory,
    StartMove,
    Unpause,
)
from domicile.hosts.simulated.ballooning import set_memory
from domicile.hosts.simulated.build import ReadGuest, build
from domicile.hosts.simulated.memory import node_affinity
from domicile.hosts.simulated.moving import end_move, start_move
from domicile.hosts.simulated.placement import ChooseNodes
from domicile.hosts.simulated.state import Held, Office, Owner, Promise, Resident, SimulatedState
from domicile.state.model import PAGES_PER_MIB, Domain, Vcpu

__all__ = ["alter", "carry_out"]


def carry_out(
    state: SimulatedState, action: Action, owner: Owner, read_guest: ReadGuest, choose_nodes: ChooseNodes
) -> SimulatedState:
    """The host after the action. Raises `Refused`, `ReservationConflict`, or `BadInput` for a bad configuration."""
    match action:
        case CreatePaused(name, config):
            request = read_guest(config, f"configuration of {name}", state.machine.topology)
            if request.name != name:
                raise Refused(f"{name}: its configuration is for {request.name}")
            return state.with_resident(build(state, request, owner, choose_nodes))
        case Unpause(name):
            resident = _resident(state, name)
            return state.with_resident(replace(resident, domain=replace(resident.domain, paused=False), owner=None))
        case Destroy(name, uuid):
            return _destroy(state, name, uuid)
        case SetAffinity():
            if state.office and state.office.owner == owner:
                _refuse_if_halted(state)
            return _set_affinity(state, action)
        case SetMemory() | StartMove() | EndMove() | Halt():
            return _host_wide(state, action, owner)
        case _:
            return _lease(state, action, owner)


def _host_wide(state: SimulatedState, action: SetMemory | StartMove | EndMove | Halt, owner: Owner) -> SimulatedState:
    """What belongs to the host, and to nobody's connection."""
    if state.office and state.office.owner == owner and not isinstance(action, EndMove | Halt):
        _refuse_if_halted(state)
    match action:
        case SetMemory():
            return set_memory(state, action.domain, action.uuid, action.target_mib)
        case StartMove(order):
            return start_move(state, order)
        case EndMove(token):
            return end_move(state, token)
        case Halt(why):
            return _halt(state, why)


def _lease(state: SimulatedState, action: Lease, owner: Owner) -> SimulatedState:
    match action:
        case Reserve():
            return _reserve(state, action, owner)
        case Release(token):
            kept = tuple(promise for promise in state.promises if promise.reservation.token != token)
            return replace(state, promises=kept)
        case Hold():
            return _hold(state, action, owner)
        case LetGo(uuid, vcpu):
            held = state.held(uuid, vcpu)
            return state.let_go(held) if held else state
        case Manage(who):
            return _manage(state, who, owner)


def alter(state: SimulatedState, name: str, change: Callable[[Domain], Domain]) -> SimulatedState:
    """The host after somebody with `xl` in Dom0 changed a domain: renamed it, moved its memory, and so on."""
    resident = _resident(state, name)
    changed = replace(resident, domain=change(resident.domain))
    if changed.domain.id != resident.domain.id:
        state = replace(state, residents=tuple(each for each in state.residents if each is not resident))
    after = state.with_resident(changed)
    for node, free in after.free_pages.items():
        if free < 0:
            raise Refused(f"{name}: node {node} is short of {-free // PAGES_PER_MIB} MiB for this")
    return after


def _reserve(state: SimulatedState, action: Reserve, owner: Owner) -> SimulatedState:
    if action.expected_generation != str(state.generation):
        raise ReservationConflict(f"{action.reservation.domain}: the host's reservations have changed; look again")
    if any(promise.reservation.token == action.reservation.token for promise in state.promises):
        raise Refused(f"{action.reservation.domain}: its reservation {action.reservation.token} is there already")
    for node, mib in action.reservation.memory_mib.items():
        if node not in state.machine.capacity_pages or mib < 0:
            raise Refused(f"{action.reservation.domain}: {mib} MiB cannot be reserved on node {node}")
    promises = (*state.promises, Promise(action.reservation, owner))
    return replace(state, promises=promises, generation=state.generation + 1)


def _destroy(state: SimulatedState, name: str, uuid: str) -> SimulatedState:
    resident = state.resident(name)
    if resident is None or (uuid and resident.domain.uuid != uuid):
        return state
    if resident.domain.id == 0:
        raise Refused(f"{name}: Dom0 cannot be destroyed")
    return replace(state, residents=tuple(each for each in state.residents if each is not resident))


def _halt(state: SimulatedState, why: str | None) -> SimulatedState:
    if why is not None:
        for held in state.holds:
            state = state.let_go(held)
    return replace(state, halted=why or "")


def _refuse_if_halted(state: SimulatedState) -> None:
    if state.halted:
        raise Halted(f"managers of this host are stopped: {state.halted}; `domicile stop --off` lets them start again")


def _hold(state: SimulatedState, action: Hold, owner: Owner) -> SimulatedState:
    _refuse_if_halted(state)
    domain = _resident(state, action.domain).domain
    if domain.uuid != action.uuid:
        raise Refused(f"{domain.name}: is another now, of UUID {domain.uuid}")
    held = state.held(action.uuid, action.vcpu)
    if held and held.owner != owner:
        raise Refused(f"{domain.name}: vCPU {action.vcpu} is held by process {held.owner.process.pid}")
    expected = held.given if held else action.before
    changed = _set_affinity(state, SetAffinity(action.domain, action.vcpu, hard=action.cpus))
    if any(vcpu.id == action.vcpu and vcpu.hard_affinity != expected for vcpu in domain.vcpus):
        raise ReservationConflict(f"{domain.name}: somebody else set the hard affinity of vCPU {action.vcpu}")
    given = action.cpus & frozenset(cpu.id for cpu in state.machine.topology.cpus)
    made = Held(action.uuid, action.vcpu, held.before if held else action.before, given, owner)
    return replace(changed, holds=(*(each for each in state.holds if each is not held), made))


def _manage(state: SimulatedState, who: str, owner: Owner) -> SimulatedState:
    if state.office and state.office.owner != owner:
        if not who:
            return state
        pid = state.office.owner.process.pid
        raise Refused(f"this host is managed by {state.office.who} (process {pid})")
    if who:
        _refuse_if_halted(state)
    return replace(state, office=Office(who, owner) if who else None)


def _set_affinity(state: SimulatedState, action: SetAffinity) -> SimulatedState:
    resident = _resident(state, action.domain)
    domain = resident.domain
    pool = state.cpupool(domain.cpupool)
    pool_cpus = pool.cpus if pool else frozenset()
    known = frozenset(cpu.id for cpu in state.machine.topology.cpus)
    if all(vcpu.id != action.vcpu for vcpu in domain.vcpus):
        raise Refused(f"{domain.name}: has no vCPU {action.vcpu}")
    for what, cpus, usable in (("hard", action.hard, pool_cpus), ("soft", action.soft, known)):
        if cpus is not None and not cpus & usable:
            raise Refused(f"{domain.name}: vCPU {action.vcpu} would have no CPU that it can use ({what} affinity)")
    vcpus = tuple(_with_affinity(vcpu, action, known) if vcpu.id == action.vcpu else vcpu for vcpu in domain.vcpus)
    nodes = node_affinity(vcpus, pool_cpus, state.machine.topology) if resident.affinity_follows else None
    changed = replace(domain, vcpus=vcpus, node_affinity=domain.node_affinity if nodes is None else nodes)
    return state.with_resident(replace(resident, domain=changed))


def _with_affinity(vcpu: Vcpu, action: SetAffinity, known: frozenset[int]) -> Vcpu:
    """CPUs that are not there are left out, as Xen does with those that are offline."""
    hard = vcpu.hard_affinity if action.hard is None else action.hard & known
    soft = vcpu.soft_affinity if action.soft is None else action.soft & known
    return replace(vcpu, hard_affinity=hard, soft_affinity=soft)


def _resident(state: SimulatedState, name: str) -> Resident:
    resident = state.resident(name)
    if resident is None:
        raise Refused(f"{name}: no domain of this name is there")
    return resident
