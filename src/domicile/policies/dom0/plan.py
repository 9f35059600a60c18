"""The plan for Dom0: nodes, vCPUs, memory, the command line that says so at boot, and the affinity for now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domicile.errors import BadInput, NotEnoughMemory, Refused
from domicile.policies.dom0.command_line import CommandLine, Dom0Options, VcpuRange, parse_command_line
from domicile.policies.dom0.nodes import Candidate, Room, Site, best_nodes, candidates
from domicile.policies.dom0.served import Served, served_devices
from domicile.policies.dom0.sizing import LEAST_MEMORY_MIB, LEAST_VCPUS, NODE_SHARE, Given, Size, given_size
from domicile.policies.dom0.target import Dom0Target
from domicile.policies.dom0.words import named, reasons, warnings
from domicile.state.model import Domain, Snapshot, Vcpu
from domicile.topology.ids import format_ids

__all__ = ["Dom0Plan", "Dom0Wish", "VcpuAffinity", "dom0_of", "plan_dom0"]

XEN_SHARE = 128
"""Xen keeps 32 bytes for every page of 4 KiB (its frame table, xen/arch/x86/mm.c): one page in 128."""


@dataclass(frozen=True, slots=True)
class Dom0Wish:
    """What the administrator wants of Dom0's place. None: worked out.

    `devices`: the PCI addresses that count, instead of all that Dom0 serves. `by_rule`: vCPUs and memory by the rule,
    whatever the command line says now. `strict`: hard affinity rather than soft. `pin`: `dom0_vcpus_pin`, each vCPU on
    one pCPU.
    """

    nodes: tuple[int, ...] | None = None
    vcpus: int | None = None
    memory_mib: int | None = None
    devices: tuple[str, ...] = ()
    by_rule: bool = False
    strict: bool = False
    pin: bool = False


@dataclass(frozen=True, slots=True)
class VcpuAffinity:
    """The affinity that a vCPU of the running Dom0 should get; None leaves that kind as it is."""

    vcpu: int
    hard: frozenset[int] | None = None
    soft: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Dom0Plan:
    """Where Dom0 is to live.

    `proximity_domains` are those of the nodes, of which the host tells; without all of them `new` names no nodes that
    were not there before. `vcpus_now`: how many the running Dom0 has. `old` is the command line that Xen was booted
    with, `new` the one to boot with. `affinity` has the vCPUs of the running Dom0 that are to be changed.
    `alternatives` are the other sets of nodes, best first.
    """

    domain: str
    vcpus_now: int
    target: Dom0Target
    proximity_domains: Mapping[int, int]
    old: CommandLine
    new: CommandLine
    affinity: tuple[VcpuAffinity, ...]
    served: Served
    chosen: Candidate
    alternatives: tuple[Candidate, ...]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def plan_dom0(snapshot: Snapshot, wish: Dom0Wish, proximity_domains: Mapping[int, int]) -> Dom0Plan:
    """Work out where Dom0 should live. `proximity_domains` has the PXM of each node that the host tells it of.

    Raises `BadInput` for nodes that cannot be meant, `Refused` where the host has not the pCPUs or memory wished for.
    """
    dom0 = dom0_of(snapshot)
    site = Site.of(snapshot, dom0)
    if not site.cpus:
        raise Refused(f"{dom0.name}: no node has both memory and pCPUs of cpupool {dom0.cpupool}")
    served = served_devices(snapshot, wish.devices)
    old = parse_command_line(snapshot.commandline)
    given = given_size(wish.vcpus, wish.memory_mib, old.dom0, site.host_mib, by_rule=wish.by_rule)
    ranked = best_nodes(site, _sets(site, wish, given), served.devices, _about(site, given))
    chosen, alternatives = ranked[0], tuple(ranked[1:])
    size = _size(site, chosen.nodes, given)
    known = {node: proximity_domains[node] for node in chosen.nodes if node in proximity_domains}
    no_nodes = _no_nodes(snapshot, old, chosen.nodes, known)
    new = old.with_dom0(
        Dom0Options(
            proximity_domains=old.dom0.proximity_domains if no_nodes else tuple(known.values()),
            relaxed=old.dom0.relaxed if no_nodes else not wish.strict,
            max_vcpus=VcpuRange(size.vcpus, size.vcpus),
            memory=size.memory,
            vcpus_pin=wish.pin,
        )
    )
    affinity, kept = _affinity(dom0, site.cpus_of(chosen.nodes), site, strict=wish.strict)
    return Dom0Plan(
        domain=dom0.name,
        vcpus_now=len(dom0.vcpus),
        target=Dom0Target(chosen.nodes, size.vcpus, size.memory_mib, wish.strict, wish.pin, new.dom0.words),
        proximity_domains=known,
        old=old,
        new=new,
        affinity=affinity,
        served=served,
        chosen=chosen,
        alternatives=alternatives,
        reasons=reasons(site, chosen, alternatives, served, size, nodes_asked=wish.nodes is not None),
        warnings=(*no_nodes, *warnings(snapshot, dom0, chosen.nodes, old, kept=kept, strict=wish.strict, pin=wish.pin)),
    )


def dom0_of(snapshot: Snapshot) -> Domain:
    """The domain with id 0. Raises `Refused` where the host shows none."""
    for domain in snapshot.domains:
        if domain.id == 0:
            return domain
    raise Refused("the host shows no domain 0")


def _no_nodes(
    snapshot: Snapshot, old: CommandLine, nodes: tuple[int, ...], known: Mapping[int, int]
) -> tuple[str, ...]:
    """Why the command line cannot name the nodes; empty if it can."""
    if len(snapshot.topology.nodes) == 1:
        return ("the host has one node: dom0_nodes has nothing to say",)
    stays = " (what is there stays)" if old.dom0.proximity_domains else ""
    fake = next((word for word in old.others if word.startswith("numa=fake")), "")
    if fake:
        return (f"dom0_nodes is left out{stays}: it cannot name nodes that {fake} makes up",)
    unknown = [node for node in nodes if node not in known]
    if unknown:
        line = (
            f"dom0_nodes is left out{stays}: it takes proximity domains, not node ids, and neither Xen's boot log nor "
            f"the SRAT in Dom0 tells that of {named(unknown)} (the log may have been overwritten). Boot once with "
            f"`loglvl=info conring_size=1M`, look for `SRAT: Node {unknown[0]} PXM ...` in `xl dmesg`, and plan again "
            f"with --pxm {unknown[0]}=PXM"
        )
        return (line,)
    return ()


def _sets(site: Site, wish: Dom0Wish, given: Given) -> list[tuple[int, ...]]:
    """The sets of nodes to choose from: those asked for, else the smallest that hold Dom0, else all nodes together."""
    everything = tuple(site.cpus)
    if wish.nodes is not None:
        nodes = tuple(sorted(set(wish.nodes)))
        wrong = [node for node in nodes if node not in site.cpus]
        if wrong or not nodes:
            problem = f"node {format_ids(wrong)} cannot hold Dom0" if wrong else "is empty"
            raise BadInput("--nodes", f"{problem}; nodes with memory and pCPUs: {format_ids(everything)}")
        _require(site, nodes, wish)
        return [nodes]
    _require(site, everything, wish)
    all_cpus = len(site.cpus_of(everything))
    needed = given.vcpus if given.vcpus_needed else None
    room = Room(
        cpus=needed or min(LEAST_VCPUS, all_cpus),
        memory_mib=_gross(given.memory_mib) if given.memory_mib else NODE_SHARE * LEAST_MEMORY_MIB,
    )
    return candidates(site, room) or [everything]


def _require(site: Site, nodes: tuple[int, ...], wish: Dom0Wish) -> None:
    """Raise `Refused` where these nodes have not what is wished for."""
    where = f"node{'s' * (len(nodes) > 1)} {format_ids(nodes)}"
    cpus, memory_mib = len(site.cpus_of(nodes)), site.memory_of(nodes)
    if wish.vcpus is not None and wish.vcpus > cpus:
        raise Refused(f"{site.dom0.name}: {wish.vcpus} vCPUs are wanted, {where} has {cpus} pCPUs")
    if wish.memory_mib is not None and _gross(wish.memory_mib) > memory_mib:
        usable = memory_mib - -(-memory_mib // XEN_SHARE)
        raise NotEnoughMemory(site.dom0.name, wish.memory_mib, usable, where=where)


def _gross(memory_mib: int) -> int:
    """The memory that nodes must have for Dom0 to get so much, Xen's own frame table being there too."""
    return -(-memory_mib * XEN_SHARE // (XEN_SHARE - 1))


def _about(site: Site, given: Given) -> Room:
    """About what Dom0 will be, for the comparison of nodes: on the largest."""
    largest = max(site.memory_mib, key=site.memory_mib.__getitem__)
    size = _size(site, (largest,), given)
    return Room(size.vcpus, size.memory_mib)


def _size(site: Site, nodes: tuple[int, ...], given: Given) -> Size:
    return given.on(
        nodes_cpus=len(site.cpus_of(nodes)),
        nodes_mib=site.memory_of(nodes),
        host_cpus=len(site.cpus_of(tuple(site.cpus))),
        host_mib=site.host_mib,
    )


def _affinity(
    dom0: Domain, cpus: frozenset[int], site: Site, *, strict: bool
) -> tuple[tuple[VcpuAffinity, ...], tuple[int, ...]]:
    """What to change now, and the vCPUs to leave alone: their hard affinity, which is the administrator's, has none of
    these CPUs."""
    online = frozenset(cpu.id for cpu in site.snapshot.topology.cpus)
    changes, kept = [], []
    for vcpu in dom0.vcpus:
        if not vcpu.hard_affinity & cpus:
            kept.append(vcpu.id)
        elif change := _change(vcpu, cpus, online, strict=strict):
            changes.append(change)
    return tuple(changes), tuple(kept)


def _change(vcpu: Vcpu, cpus: frozenset[int], online: frozenset[int], *, strict: bool) -> VcpuAffinity | None:
    """Soft affinity to the CPUs, or hard affinity to those of them that it has already; None if it is so."""
    if strict:
        hard = vcpu.hard_affinity & cpus
        return None if vcpu.hard_affinity & online == hard else VcpuAffinity(vcpu.id, hard=hard)
    return None if vcpu.soft_affinity & online == cpus else VcpuAffinity(vcpu.id, soft=cpus)
