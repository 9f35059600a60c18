"""Dom0 as it is against what Xen's command line says of it, and against a plan.

What Xen does with the options, which says what to expect (4.17.5, xen/arch/x86/dom0_build.c `dom0_max_vcpus`,
`dom0_compute_nr_pages`; xen/arch/x86/pv/dom0_build.c `alloc_chunk`; xen/common/sched/core.c `sched_init_vcpu`):

- a proximity domain that is no node's is passed over without a word; if all are, Dom0 gets every node;
- memory comes from these nodes alone, relaxed or strict, until they have none left: then from anywhere, also without a
  word; Dom0 gets no more than they had free;
- relaxed is soft affinity to their pCPUs, strict is hard affinity; dom0_vcpus_pin (and cpufreq=dom0-kernel) holds each
  vCPU on one pCPU instead.

A PV Dom0 has some memory below 4 GiB wherever it lives: its initial RAM disk stays where the boot loader put it
(xen/arch/x86/pv/dom0_build.c), and it exchanges its DMA bounce buffers (Linux, drivers/xen/swiotlb-xen.c
`xen_swiotlb_fixup`; 64 MiB by default, include/linux/swiotlb.h `IO_TLB_DEFAULT_SIZE`). So much on one other node is a
note and no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from domicile.errors import Refused
from domicile.policies.dom0.command_line import CommandLine, VcpuRange, parse_command_line
from domicile.policies.dom0.plan import dom0_of
from domicile.policies.dom0.target import Dom0Target
from domicile.policies.dom0.words import named
from domicile.state.model import PAGES_PER_MIB, Domain, Snapshot, Vcpu
from domicile.topology.ids import format_ids

__all__ = ["DifferenceKind", "Dom0Check", "Dom0Difference", "check_dom0"]

LOW_MIB = 128
"""Bounce buffers of 64 MiB, and as much for the initial RAM disk (an assumption: nothing tells its size)."""
ELSEWHERE = 0.01
"""The share of Dom0's pages that may be elsewhere beside that: what drivers exchange later."""
MEMORY_OFF_MIB, MEMORY_OFF = 16, 0.02
"""How far Dom0's memory may be from what was said: pages that a kernel gives back around holes."""


class DifferenceKind(StrEnum):
    """What differs."""

    OPTION = "command line"
    NODES = "nodes"
    VCPUS = "vCPUs"
    MEMORY = "memory"
    ELSEWHERE = "memory elsewhere"
    NODE_AFFINITY = "node affinity"
    HARD_AFFINITY = "hard affinity"
    SOFT_AFFINITY = "soft affinity"


@dataclass(frozen=True, slots=True)
class Dom0Difference:
    """One difference: what should be, and what is."""

    kind: DifferenceKind
    intended: str
    seen: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.seen}; intended: {self.intended}"


@dataclass(frozen=True, slots=True)
class Dom0Check:
    """All differences, and what could not be looked at or should be known, a line each."""

    differences: tuple[Dom0Difference, ...]
    notes: tuple[str, ...] = ()


def check_dom0(snapshot: Snapshot, proximity_domains: Mapping[int, int], target: Dom0Target | None) -> Dom0Check:
    """Compare. `proximity_domains` has the PXM of each node that the host tells it of; without a target Xen's command
    line alone says what should be.

    Raises `Refused` where neither says anything.
    """
    checking = _Checking(
        snapshot, dom0_of(snapshot), proximity_domains, parse_command_line(snapshot.commandline), target
    )
    return Dom0Check(tuple(checking.differences()), tuple(checking.notes))


@dataclass
class _Checking:
    snapshot: Snapshot
    dom0: Domain
    proximity_domains: Mapping[int, int]
    line: CommandLine
    target: Dom0Target | None
    notes: list[str] = field(default_factory=list)

    def differences(self) -> Iterator[Dom0Difference]:
        """All of them; what cannot be looked at goes to `notes` on the way."""
        if self.target is None and not (self.line.dom0.words or self.line.refused):
            booted = "Xen was booted without dom0_nodes, dom0_max_vcpus and dom0_mem"
            if not self.snapshot.commandline:
                booted = "the host does not tell what Xen was booted with"
            raise Refused(
                f"{self.dom0.name}: nothing says where it should live: no plan was kept (`domicile dom0 plan --save` "
                f"keeps one), and {booted}"
            )
        if not self.snapshot.commandline:
            self.notes.append("the host does not tell what Xen was booted with, so its options were not checked")
        for refused in self.line.refused:
            yield Dom0Difference(DifferenceKind.OPTION, "a value that Xen takes", f"Xen refuses {refused}")
        yield from self._booted()
        if self.target is not None:
            if self.snapshot.commandline:
                yield from self._options(self.target)
            gone = [node for node in self.target.nodes if node not in self.snapshot.topology.node_ids]
            if gone:
                seen = f"the host has no {named(gone)}"
                yield Dom0Difference(DifferenceKind.NODES, f"Dom0 on {named(self.target.nodes)}", seen)
        yield from self._vcpus()
        yield from self._memory()
        nodes = self._nodes()
        if not nodes:
            self.notes.append("nothing says on which nodes Dom0 should be, so where it is was not checked")
            return
        yield from self._elsewhere(nodes)
        yield from self._affinity(nodes)

    # -- the command line ------------------------------------------------------------------------------------------

    @property
    def _named_nodes(self) -> tuple[int, ...] | None:
        """The nodes that Xen took Dom0 to be on by its command line; None without dom0_nodes, or where it cannot be
        told."""
        given = self.line.dom0.proximity_domains
        if not given:
            return None
        node_of = {domain: node for node, domain in self.proximity_domains.items()}
        found = sorted({node_of[domain] for domain in given if domain in node_of})
        if len(found) < len(given) and not self._all_known:
            return None
        return tuple(found) or tuple(self.snapshot.topology.node_ids)

    @property
    def _all_known(self) -> bool:
        return set(self.proximity_domains) >= set(self.snapshot.topology.node_ids)

    def _booted(self) -> Iterator[Dom0Difference]:
        """Proximity domains that Xen passed over."""
        domains = set(self.proximity_domains.values())
        strange = [domain for domain in self.line.dom0.proximity_domains if domain not in domains]
        if not strange:
            return
        if not self._all_known:
            self.notes.append(
                f"dom0_nodes names proximity domain {format_ids(strange)}; the host tells no node of it: not checked. "
                f"`SRAT: Node N PXM M` in `xl dmesg` after a boot with loglvl=info tells, then give --pxm N=M"
            )
            return
        every = len(strange) == len(self.line.dom0.proximity_domains)
        seen = f"dom0_nodes names proximity domain {format_ids(strange)}, which is no node's: Xen passed over it"
        seen += ", and gave Dom0 every node" if every else ""
        yield Dom0Difference(DifferenceKind.OPTION, f"one of {self._translation()}{self._ids_hint(strange)}", seen)

    def _translation(self) -> str:
        return ", ".join(f"{domain} (node {node})" for node, domain in sorted(self.proximity_domains.items()))

    def _ids_hint(self, given: list[int]) -> str:
        """Whether node ids may have been written where proximity domains belong."""
        meant = {node: self.proximity_domains[node] for node in given if node in self.proximity_domains}
        if not meant or all(node == domain for node, domain in meant.items()):
            return ""
        return f"; if {named(list(meant))} is meant, write dom0_nodes={','.join(map(str, meant.values()))}"

    def _options(self, target: Dom0Target) -> Iterator[Dom0Difference]:
        """The options that a plan has and the command line has not, or has otherwise."""
        wanted, found = parse_command_line(" ".join(target.options)).dom0, self.line.dom0
        pairs = (
            (
                "dom0_nodes",
                (set(wanted.proximity_domains), wanted.relaxed) if wanted.proximity_domains else None,
                (set(found.proximity_domains), found.relaxed),
            ),
            ("dom0_max_vcpus", wanted.max_vcpus, found.max_vcpus),
            ("dom0_mem", wanted.memory, found.memory),
            ("dom0_vcpus_pin", wanted.vcpus_pin or None, found.vcpus_pin),
        )
        for key, should, is_now in pairs:
            if should is None or should == is_now:
                continue
            seen = _word(found.words, key) or f"{key} is not there"
            if key == "dom0_nodes" and self._are_ids(target):
                there = self._named_nodes
                seen += f" (the node id; that proximity domain is {named(there)})" if there else " (the node id)"
            yield Dom0Difference(DifferenceKind.OPTION, _word(wanted.words, key), seen)
        if found.vcpus_pin and not wanted.vcpus_pin:
            yield Dom0Difference(DifferenceKind.OPTION, "no dom0_vcpus_pin", "dom0_vcpus_pin")

    def _are_ids(self, target: Dom0Target) -> bool:
        """Whether the command line has the plan's node ids where their proximity domains should be."""
        given = set(self.line.dom0.proximity_domains)
        should = {self.proximity_domains[node] for node in target.nodes if node in self.proximity_domains}
        return given == set(target.nodes) != should

    # -- what became of it -----------------------------------------------------------------------------------------

    def _nodes(self) -> tuple[int, ...] | None:
        """Where Dom0 should be."""
        if self.target is None:
            return self._named_nodes
        return tuple(node for node in self.target.nodes if node in self.snapshot.topology.node_ids)

    def _cpus(self, nodes: tuple[int, ...]) -> frozenset[int]:
        """Their pCPUs that Dom0's cpupool has."""
        cpus = self.snapshot.topology.cpus_of(nodes)
        pool = next((pool.cpus for pool in self.snapshot.cpupools if pool.name == self.dom0.cpupool), None)
        return cpus if pool is None else cpus & pool

    def _vcpus(self) -> Iterator[Dom0Difference]:
        bounds, why = self.line.dom0.max_vcpus, ""
        if self.target is not None:
            wanted = self.target.vcpus
        elif bounds is not None or self._named_nodes is not None:
            nodes = self._named_nodes or tuple(self.snapshot.topology.node_ids)
            wanted = (bounds or VcpuRange()).of_cpus(len(self._cpus(nodes)))
            why = f" (dom0_max_vcpus={bounds})" if bounds else f" (one for each pCPU of {named(nodes)})"
        else:
            return
        there, online = len(self.dom0.vcpus), sum(vcpu.online for vcpu in self.dom0.vcpus)
        if there != wanted or online != wanted:
            seen = f"{there} vCPUs" + (f", {online} of them online" if online != there else "")
            yield Dom0Difference(DifferenceKind.VCPUS, f"{wanted} vCPUs{why}", seen)

    def _memory(self) -> Iterator[Dom0Difference]:
        option = self.line.dom0.memory
        wanted = self.target.memory_mib if self.target else option.fixed_mib if option else None
        if wanted is None:
            if option is not None:
                self.notes.append(f"dom0_mem={option} depends on what was free at the boot: how much was not checked")
            return
        have = self.dom0.memory_mib
        if abs(have - wanted) > max(MEMORY_OFF_MIB, MEMORY_OFF * wanted):
            said = option is not None and option.fixed_mib == wanted
            less = " (Xen gives no more than Dom0's nodes have free)" if said and have < wanted else ""
            yield Dom0Difference(DifferenceKind.MEMORY, f"{wanted} MiB", f"{have} MiB{less}")

    def _elsewhere(self, nodes: tuple[int, ...]) -> Iterator[Dom0Difference]:
        pages = self.dom0.pages_by_node
        if pages is None:
            self.notes.append("the host gave no memory map, so where Dom0's memory is was not checked")
            return
        total = sum(pages.values())
        elsewhere = {node: count for node, count in pages.items() if node not in nodes and count}
        away = sum(elsewhere.values())
        low = min(LOW_MIB * PAGES_PER_MIB, total // 4, max(elsewhere.values(), default=0))
        found = ", ".join(
            f"{count / PAGES_PER_MIB:.0f} MiB on node {node}" for node, count in sorted(pages.items()) if count
        )
        if away > low + ELSEWHERE * total:
            seen = f"{found}: {away / total:.0%} elsewhere"
            yield Dom0Difference(DifferenceKind.ELSEWHERE, f"all on {named(nodes)}", seen)
        elif away > ELSEWHERE * total:
            self.notes.append(
                f"{away / PAGES_PER_MIB:.0f} MiB are not on {named(nodes)} ({found}): as much as a Dom0 has below "
                f"4 GiB anyway, initial RAM disk and DMA buffers"
            )

    def _affinity(self, nodes: tuple[int, ...]) -> Iterator[Dom0Difference]:
        cpus = self._cpus(nodes)
        affinity = self.dom0.node_affinity
        if affinity is not None and affinity != set(nodes):
            seen = f"new memory comes from {named(sorted(affinity))}"
            yield Dom0Difference(DifferenceKind.NODE_AFFINITY, f"from {named(nodes)}", seen)
        # cpufreq.c sets opt_dom0_vcpus_pin for it
        kernel = any(word.startswith("cpufreq=dom0-kernel") for word in self.line.others)
        if kernel or (self.target.pin if self.target else self.line.dom0.vcpus_pin):
            wrong = [vcpu for vcpu in self.dom0.vcpus if len(vcpu.hard_affinity) != 1 or not vcpu.hard_affinity <= cpus]
            yield from _wrong(DifferenceKind.HARD_AFFINITY, wrong, f"each vCPU on one CPU of {format_ids(cpus)}")
        elif self.target.strict if self.target else not self.line.dom0.relaxed:
            wrong = [vcpu for vcpu in self.dom0.vcpus if self._online(vcpu.hard_affinity) != cpus]
            yield from _wrong(DifferenceKind.HARD_AFFINITY, wrong, f"CPUs {format_ids(cpus)} (strict)")
        else:
            wrong = [vcpu for vcpu in self.dom0.vcpus if not self._online(vcpu.hard_affinity) >= cpus]
            yield from _wrong(DifferenceKind.HARD_AFFINITY, wrong, "none (relaxed)")
            wrong = [vcpu for vcpu in self.dom0.vcpus if self._online(vcpu.soft_affinity) != cpus]
            yield from _wrong(DifferenceKind.SOFT_AFFINITY, wrong, f"CPUs {format_ids(cpus)} (relaxed)")

    def _online(self, cpus: frozenset[int]) -> frozenset[int]:
        """Those that there are, of Dom0's cpupool."""
        return cpus & self._cpus(tuple(self.snapshot.topology.node_ids))


def _word(words: tuple[str, ...], key: str) -> str:
    return next((word for word in words if word == key or word.startswith(f"{key}=")), "")


def _wrong(kind: DifferenceKind, vcpus: list[Vcpu], intended: str) -> Iterator[Dom0Difference]:
    """The vCPUs with the sets that they have, those with the same set together."""
    together: dict[frozenset[int], list[int]] = {}
    for vcpu in vcpus:
        have = vcpu.soft_affinity if kind is DifferenceKind.SOFT_AFFINITY else vcpu.hard_affinity
        together.setdefault(have, []).append(vcpu.id)
    if together:
        seen = ", ".join(f"vCPU {format_ids(ids)}: CPUs {format_ids(cpus)}" for cpus, ids in together.items())
        yield Dom0Difference(kind, intended, seen)
