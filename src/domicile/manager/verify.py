"""What is against what was wanted: every domain that domicile started, compared with the host. Only reads.

Tolerances: memory is where it was wanted when 99 % of a domain's pages are on the nodes that were planned (a guest has
a few pages that Xen puts where it likes). Over several planned nodes the shares are compared with the plan, and a tenth
may be elsewhere, or what Xen's taking superpages from the nodes in turn can amount to; of the shares that were found at
the start, a tenth may have moved. Affinity, vCPUs and cpupool are compared exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from domicile.errors import Refused
from domicile.hosts.protocol import Host
from domicile.manager.intents import Act, ActStatus, DomainIntent
from domicile.manager.journal import Journal
from domicile.manager.recovery import Fate, domain_with_uuid, fate, orphans
from domicile.manager.text import mib_by_node, pages_by_node
from domicile.state.model import PAGES_PER_MIB, Domain, MemoryMapAge, Snapshot, Vcpu, Vnode
from domicile.topology.ids import format_ids

__all__ = [
    "Deviation",
    "DeviationKind",
    "Verification",
    "deviations",
    "forget",
    "memory_problem",
    "soft_affinity_problem",
    "soft_since",
    "verify",
]

ON_PLANNED_NODES = 0.99
MOVED_BETWEEN_PLANNED = 0.10

GIB_PAGES = 1024 * PAGES_PER_MIB
LARGE_PAGES = 2 * PAGES_PER_MIB
"""A guest's memory is taken in superpages of 1 GiB, where it has as much, and of 2 MiB (meminit_hvm,
tools/libs/guest/xg_dom_x86.c, 4.17)."""

LOW_PAGES = 0xA0
"""Pages below 640 KiB, which are allocated before the virtual nodes' (the same)."""

BOOT_S = 300.0
"""For this long after its start a guest may have fewer vCPUs online than it has: it brings them up as it boots."""


class DeviationKind(StrEnum):
    """What differs."""

    GONE = "domain gone"
    REPLACED = "another domain of this name"
    RENAMED = "renamed"
    MEMORY = "memory elsewhere"
    VNODES = "virtual topology changed"
    VNODE_MEMORY = "virtual node's memory elsewhere"
    SOFT_AFFINITY = "soft affinity changed"
    HARD_AFFINITY = "hard affinity changed"
    VCPUS = "vCPU count changed"
    CPUPOOL = "cpupool changed"
    HALF_MADE = "half-made domain left"


@dataclass(frozen=True, slots=True)
class Deviation:
    """One difference of one domain: what was intended, and what is."""

    domain: str
    kind: DeviationKind
    intended: str
    seen: str

    def __str__(self) -> str:
        return f"{self.domain}: {self.kind}: {self.seen}; intended: {self.intended}"


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer: all differences, how many domains were looked at, and what could not be looked at, a line each."""

    deviations: tuple[Deviation, ...]
    checked: int
    unchecked: tuple[str, ...] = ()


def verify(host: Host, journal: Journal, memory_map: MemoryMapAge = MemoryMapAge.NOW) -> Verification:
    """Compare the host with the journal. A domain stays reported as gone until it is started again or forgotten."""
    intents, left = journal.active(), orphans(journal)
    snapshot = host.snapshot(memory_map)
    found = [*deviations(snapshot, intents, journal.now(), soft_since(journal.acts())), *_half_made(snapshot, left)]
    unchecked = [
        f"{intent.wanted.domain}: the host gave no memory map, so where its memory is was not checked"
        for intent in intents
        if (domain := domain_with_uuid(snapshot, intent.wanted.uuid, intent.wanted.domain)) is not None
        and domain.pages_by_node is None
    ]
    return Verification(tuple(found), len(intents), tuple(unchecked))


def forget(journal: Journal, domain: str) -> None:
    """Stop looking after a domain: the way to say that it is known to be gone. Raises `Refused` if none is."""
    if not journal.forget(domain):
        names = ", ".join(sorted(intent.wanted.domain for intent in journal.active())) or "none"
        raise Refused(f"{domain}: no domain of this name is looked after; those that are: {names}")


def deviations(
    snapshot: Snapshot,
    intents: Iterable[DomainIntent],
    now: float,
    since: Mapping[tuple[str, int], frozenset[int]] = MappingProxyType({}),
) -> list[Deviation]:
    """Every difference between the host and the active intents, in the order of the intents. `now` is by the clock
    that dated them: the host's may go otherwise. `since` is the soft affinity that we have given vCPUs (by UUID) since
    they were started. What a vCPU is held on for a while is no difference.
    """
    snapshot = _without_holds(snapshot)
    return [deviation for intent in intents for deviation in _of_one(snapshot, intent, now, since)]


def soft_since(acts: Iterable[Act]) -> dict[tuple[str, int], frozenset[int]]:
    """The soft affinity that vCPUs should have by what was changed last, or put back."""
    found = {}
    for act in acts:
        if act.status is ActStatus.DONE:
            found[act.uuid, act.vcpu] = act.wanted
        elif act.status is ActStatus.UNDONE:
            found[act.uuid, act.vcpu] = act.before
    return found


def _without_holds(snapshot: Snapshot) -> Snapshot:
    """The host as it will be when nobody holds a vCPU any more."""
    back = {(held.uuid, held.vcpu): held for held in snapshot.holds}

    def let_go(domain: Domain, vcpu: Vcpu) -> Vcpu:
        held = back.get((domain.uuid, vcpu.id))
        return replace(vcpu, hard_affinity=held.before) if held and vcpu.hard_affinity == held.cpus else vcpu

    domains = (replace(each, vcpus=tuple(let_go(each, vcpu) for vcpu in each.vcpus)) for each in snapshot.domains)
    return replace(snapshot, domains=tuple(domains)) if back else snapshot


def memory_problem(planned_mib: Mapping[int, int], pages: Mapping[int, int]) -> bool:
    """Whether more than a hundredth of the pages is on nodes that were not planned, or the planned ones share them
    otherwise than was planned: by more than a tenth, or more than superpages taken in turn explain."""
    total = sum(pages.values())
    planned = [node for node, mib in planned_mib.items() if mib]
    if sum(pages.get(node, 0) for node in planned) < ON_PLANNED_NODES * total:
        return True
    superpage = GIB_PAGES if total >= GIB_PAGES else LARGE_PAGES
    # of the last superpages every node has one or none: with half of them one too many, so many pages are elsewhere
    uneven = len(planned) / 4 * superpage / max(total, 1)
    return _moved(planned_mib, pages) > max(MOVED_BETWEEN_PLANNED, uneven)


def soft_affinity_problem(
    wanted: Sequence[frozenset[int]] | Mapping[int, frozenset[int]], domain: Domain, online: frozenset[int]
) -> dict[int, frozenset[int]]:
    """vCPU to the soft affinity that it should have, for those that have another. Offline pCPUs do not count."""
    return _differing(_by_vcpu(wanted), domain, lambda vcpu: vcpu.soft_affinity, online)


def _of_one(
    snapshot: Snapshot, intent: DomainIntent, now: float, since: Mapping[tuple[str, int], frozenset[int]]
) -> Iterator[Deviation]:
    name = intent.wanted.domain
    domain = domain_with_uuid(snapshot, intent.wanted.uuid, name)
    if domain is None:
        other = snapshot.domain(name)
        if other is None:
            seen = "no domain has its name or UUID"
            yield Deviation(name, DeviationKind.GONE, f"running with UUID {intent.wanted.uuid}", seen)
        else:
            seen = f"a domain started otherwise, with UUID {other.uuid}"
            yield Deviation(name, DeviationKind.REPLACED, f"UUID {intent.wanted.uuid}", seen)
        return
    if domain.name != name:
        yield Deviation(name, DeviationKind.RENAMED, f"called {name}", f"called {domain.name}")
    vnode_memory = list(_vnodes(intent, domain))
    # the finer of the two says it all
    yield from vnode_memory or _memory(intent, domain)
    yield from _affinity(intent, domain, frozenset(cpu.id for cpu in snapshot.topology.cpus), since)
    online = sum(vcpu.online for vcpu in domain.vcpus)
    booting = now - intent.changed_at < BOOT_S
    if online > intent.wanted.vcpus or (online < intent.wanted.vcpus and not booting):
        yield Deviation(name, DeviationKind.VCPUS, f"{intent.wanted.vcpus} vCPUs", f"{online} vCPUs online")
    if domain.cpupool != intent.wanted.cpupool:
        seen = f"in cpupool {domain.cpupool}"
        yield Deviation(name, DeviationKind.CPUPOOL, f"in cpupool {intent.wanted.cpupool}", seen)


def _memory(intent: DomainIntent, domain: Domain) -> Iterator[Deviation]:
    pages = domain.pages_by_node
    if pages is None:
        return
    at_start = intent.seen.pages_by_node if intent.seen else None
    if memory_problem(intent.wanted.memory_mib, pages):
        intended = mib_by_node(intent.wanted.memory_mib)
    elif at_start is not None and _moved(at_start, pages) > MOVED_BETWEEN_PLANNED:
        intended = f"{pages_by_node(at_start)}, as at its start"
    else:
        return
    yield Deviation(intent.wanted.domain, DeviationKind.MEMORY, intended, pages_by_node(pages))


def _vnodes(intent: DomainIntent, domain: Domain) -> Iterator[Deviation]:
    """Where a domain's virtual nodes are not as they were intended, by what the host has of its configuration, and
    where a pnode has less of its memory than the virtual nodes on it should have there.

    Xen takes a virtual node's memory from exactly its pnode, but for video memory (a part of virtual node 0) and what
    is below 640 KiB, which come from any node of the node-affinity; the memory map tells pages by node, not by virtual
    node, so virtual nodes on one pnode are looked at together.
    """
    wanted = intent.wanted
    if not wanted.vnodes:
        return
    if domain.vnodes and _shapes(domain.vnodes) != _shapes(wanted.vnodes):
        yield Deviation(wanted.domain, DeviationKind.VNODES, _topology(wanted.vnodes), _topology(domain.vnodes))
    if domain.pages_by_node is None:
        return
    # a balloon takes from any virtual node: what it took is missing somewhere, and nobody can say where
    given_back = max(
        sum(vnode.memory_mib for vnode in wanted.vnodes) * PAGES_PER_MIB - sum(domain.pages_by_node.values()), 0
    )
    for pnode in sorted({vnode.pnode for vnode in wanted.vnodes if vnode.pnode is not None}):
        on_it = [number for number, vnode in enumerate(wanted.vnodes) if vnode.pnode == pnode]
        mib = sum(wanted.vnodes[number].memory_mib for number in on_it)
        floor = ON_PLANNED_NODES * (mib - (wanted.video_mib if 0 in on_it else 0)) * PAGES_PER_MIB - LOW_PAGES
        found = domain.pages_by_node.get(pnode, 0)
        if found + given_back < floor:
            who = f"virtual node{'s' * (len(on_it) > 1)} {format_ids(on_it)}"
            intended = f"{mib} MiB of {who} on node {pnode}"
            seen = f"{pages_by_node({pnode: found})} ({pages_by_node(domain.pages_by_node)} in all)"
            yield Deviation(wanted.domain, DeviationKind.VNODE_MEMORY, intended, seen)


def _shapes(vnodes: Sequence[Vnode]) -> list[tuple[int | None, int, frozenset[int]]]:
    return [(vnode.pnode, vnode.memory_mib, vnode.vcpus) for vnode in vnodes]


def _topology(vnodes: Sequence[Vnode]) -> str:
    """`virtual node 0: 256 MiB, vCPUs 0-1, node 1; …`."""
    return "; ".join(
        f"virtual node {number}: {vnode.memory_mib} MiB, vCPUs {format_ids(vnode.vcpus)}, node {vnode.pnode}"
        for number, vnode in enumerate(vnodes)
    )


def _moved(before: Mapping[int, int], after: Mapping[int, int]) -> float:
    """The share of the pages that are on another node than before, whatever a balloon made of their number."""
    total_before, total_after = sum(before.values()), sum(after.values())
    if not total_before or not total_after:
        return 0.0
    return sum(max(count / total_after - before.get(node, 0) / total_before, 0.0) for node, count in after.items())


def _affinity(
    intent: DomainIntent, domain: Domain, online: frozenset[int], since: Mapping[tuple[str, int], frozenset[int]]
) -> Iterator[Deviation]:
    seen = intent.seen
    soft = _by_vcpu(intent.wanted.soft_affinity) if intent.wanted.soft_affinity else seen.soft_affinity if seen else {}
    soft = {**soft, **{vcpu: cpus for (uuid, vcpu), cpus in since.items() if uuid == domain.uuid}}
    hard = seen.hard_affinity if seen else {}
    kinds: tuple[tuple[DeviationKind, Mapping[int, frozenset[int]], Callable[[Vcpu], frozenset[int]]], ...] = (
        (DeviationKind.SOFT_AFFINITY, soft, lambda vcpu: vcpu.soft_affinity),
        (DeviationKind.HARD_AFFINITY, hard, lambda vcpu: vcpu.hard_affinity),
    )
    for kind, wanted, of in kinds:
        wrong = _differing(wanted, domain, of, online)
        if wrong:
            found = {vcpu.id: of(vcpu) for vcpu in domain.vcpus if vcpu.id in wrong}
            yield Deviation(intent.wanted.domain, kind, _sets(wrong, online), _sets(found, online))


def _differing(
    wanted: Mapping[int, frozenset[int]], domain: Domain, of: Callable[[Vcpu], frozenset[int]], online: frozenset[int]
) -> dict[int, frozenset[int]]:
    return {
        vcpu.id: wanted[vcpu.id]
        for vcpu in domain.vcpus
        if vcpu.id in wanted and of(vcpu) & online != wanted[vcpu.id] & online
    }


def _sets(by_vcpu: Mapping[int, frozenset[int]], online: frozenset[int]) -> str:
    """`vCPU 0-1: CPUs 4-5`, vCPUs with the same set together."""
    together: dict[frozenset[int], list[int]] = {}
    for vcpu, cpus in by_vcpu.items():
        together.setdefault(cpus, []).append(vcpu)
    parts = [
        f"vCPU {format_ids(vcpus)}: {'all CPUs' if cpus >= online else f'CPUs {format_ids(cpus)}'}"
        for cpus, vcpus in together.items()
    ]
    return ", ".join(parts)


def _by_vcpu(sets: Sequence[frozenset[int]] | Mapping[int, frozenset[int]]) -> Mapping[int, frozenset[int]]:
    return sets if isinstance(sets, Mapping) else dict(enumerate(sets))


def _half_made(snapshot: Snapshot, left: Iterable[DomainIntent]) -> Iterator[Deviation]:
    for intent in left:
        if fate(intent, snapshot) is Fate.HALF_MADE:
            seen = f"paused since {intent.owner}, which was making it, ended; the next create removes it"
            yield Deviation(intent.wanted.domain, DeviationKind.HALF_MADE, "made whole or not at all", seen)
