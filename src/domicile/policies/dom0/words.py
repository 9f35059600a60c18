"""Why a plan for Dom0 is as it is, and what to beware of, a line each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from domicile.policies.dom0.command_line import CommandLine
from domicile.policies.dom0.nodes import DIGITS, Candidate, Site
from domicile.policies.dom0.served import Served, ServedDevice
from domicile.policies.dom0.sizing import Size
from domicile.state.model import Domain, Snapshot
from domicile.topology.ids import format_ids

__all__ = ["named", "reasons", "warnings"]

MOST_DEVICES = 4


def reasons(
    site: Site,
    chosen: Candidate,
    alternatives: Sequence[Candidate],
    served: Served,
    size: Size,
    *,
    nodes_asked: bool,
) -> tuple[str, ...]:
    """Nodes, vCPUs and memory, with the figures."""
    where = named(chosen.nodes)
    found = []
    if nodes_asked:
        found.append(f"{where}: as asked")
    elif len(site.cpus) == 1:
        found.append(f"{where}: the only one with memory and pCPUs")
    elif len(chosen.nodes) > 1:
        found.append(f"{len(chosen.nodes)} nodes, because fewer do not hold it")
    if nodes_asked or len(site.cpus) > 1:
        found += _near(where, chosen, alternatives, served)
    if chosen.objective is not None:
        found.append(_least(where, chosen, alternatives))
    cpus, memory_mib = len(site.cpus_of(chosen.nodes)), site.memory_of(chosen.nodes)
    found.append(f"{size.vcpus} vCPU{'s' * (size.vcpus > 1)}: {size.vcpus_why}; {where} has {cpus} pCPUs")
    found.append(f"{size.memory_mib} MiB: {size.memory_why}; {where} has {memory_mib} MiB")
    return tuple(found)


def warnings(
    snapshot: Snapshot,
    dom0: Domain,
    nodes: tuple[int, ...],
    old: CommandLine,
    *,
    kept: Sequence[int],
    strict: bool,
    pin: bool,
) -> tuple[str, ...]:
    """What the plan could not know or does not do."""
    found = [f"left out, as Xen refuses it: {refused}" for refused in old.refused]
    if not snapshot.commandline:
        found.append("the host does not tell what Xen was booted with: the options here are only those of Dom0's place")
    if kept:
        found.append(
            f"vCPU {format_ids(kept)} of {dom0.name}: hard affinity excludes {named(nodes)}; left alone until the boot"
        )
    scheduler = next((pool.scheduler for pool in snapshot.cpupools if pool.name == dom0.cpupool), snapshot.scheduler)
    if scheduler == "credit2" and len(nodes) < len(snapshot.topology.nodes) and not (strict or pin):
        found.append(
            "soft affinity (relaxed) is a wish that credit2 does not keep to under load; --strict holds Dom0 there"
        )
    if pin:
        found.append("dom0_vcpus_pin overrides strict and relaxed: each vCPU is held on one pCPU of its nodes")
    if dom0.pages_by_node is not None and (total := sum(dom0.pages_by_node.values())):
        there = sum(dom0.pages_by_node.get(node, 0) for node in nodes) / total
        if round(there, 2) < 1:
            found.append(f"{1 - there:.0%} of {dom0.name}'s memory is on other nodes now, and moves only with the boot")
    return tuple(found)


def named(nodes: Sequence[int]) -> str:
    """`node 1`, `nodes 0-1`."""
    return f"node{'s' * (len(nodes) > 1)} {format_ids(nodes)}"


def _near(where: str, chosen: Candidate, alternatives: Sequence[Candidate], served: Served) -> list[str]:
    found = []
    if served.devices:
        whose = "the devices named" if served.asked else "what Dom0 serves"
        text = f"{where}: {chosen.device_latency_ns:.0f} ns on average to {whose}: {_listed(served.devices)}"
        others = [other for other in alternatives if other.device_latency_ns is not None][:3]
        if others:
            text += "; " + ", ".join(f"{named(other.nodes)} {other.device_latency_ns:.0f} ns" for other in others)
        found.append(text)
    elif not served.kinds_known:
        found.append(f"{where}: not chosen by devices: the host does not tell what kind its devices are")
    elif not served.nowhere:
        found.append(f"{where}: not chosen by devices: the host shows no network or storage controller of Dom0's")
    if served.nowhere:
        found.append(f"not counted, as the platform does not tell their node: {_some(served.nowhere)}")
    if served.guests:
        found.append(f"not counted, as they are guests' or kept for them: {_some(served.guests)}")
    return found


def _listed(devices: Sequence[ServedDevice]) -> str:
    return _some([f"{one.address} ({one.name or 'device'}, node {one.node})" for one in devices])


def _some(words: Sequence[str]) -> str:
    more = len(words) - MOST_DEVICES
    return ", ".join(words[:MOST_DEVICES]) + (f" and {more} more" if more > 0 else "")


def _least(where: str, chosen: Candidate, alternatives: Sequence[Candidate]) -> str:
    """What decided among those that the devices did not tell apart."""
    tied = [chosen, *(other for other in alternatives if other.objective is not None)]
    more = sum(other.device_latency_ns == chosen.device_latency_ns for other in alternatives) + 1 - len(tied)
    rest = f" and {more} more, no less busy or full" if more else ""
    text = f"otherwise equal: {_sets(tied)}{rest}; " if len(tied) > 1 else ""
    objective = chosen.objective
    if objective is None or math.isinf(objective):
        return f"{text}{where} is the first; none has room for Dom0 beside the guests that are there now"
    best = [one for one in tied if one.objective is not None and round(one.objective - objective, DIGITS) <= 0]
    text += f"Dom0 adds {objective:.{DIGITS}f} to the sum of all domains' predicted slowdowns on "
    text += where if len(best) == 1 else f"{_sets(best)}, of which {where} is the first"
    if len(best) == len(tied):
        return text
    worse = tied[len(best)]
    figure = f"{worse.objective:.{DIGITS}f}"
    return f"{text} ({named(worse.nodes)}: {'no room now' if figure == 'inf' else figure})"


def _sets(candidates: Sequence[Candidate]) -> str:
    """Sets of nodes: single nodes together."""
    if all(len(one.nodes) == 1 for one in candidates):
        return named([node for one in candidates for node in one.nodes])
    return _some([named(one.nodes) for one in candidates])
