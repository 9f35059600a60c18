"""CPU lists as `xl` reads them: "0-3,5", "all,^7", "nodes:0-1,^node:1"; to sets of pCPUs and back.

Source: Xen 4.17 to 4.23, tools/xl/xl_parse.c (`parse_cpurange`, `update_cpumap_range`, `parse_range`). The parts,
between commas, are applied from left to right: a CPU or a range, or "node:" or "nodes:" with a node or a range, adds;
with "^" before it, takes away; "all" adds every CPU ("nodes:all" does too, "^all" is refused). "none", which `xl`
prints, is nothing that it reads.

`xl` passes over CPUs and nodes that the machine does not have; here they are refused by name. A CPU below the highest
id that is not online counts for nothing, as in Xen, and so does a gap in the ids within a range of nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from domicile.errors import BadInput
from domicile.topology.ids import format_ids
from domicile.topology.model import Topology
from domicile.xlcfg.lexer import shown

__all__ = ["format_cpus", "parse_cpus", "parse_range"]

# strtoul(…, 10): blanks and a sign may come first
_NUMBER = r"[ \t\n\v\f\r]*\+?([0-9]+)"
_RANGE = re.compile(rf"{_NUMBER}(?:-{_NUMBER})?")
_NODES = re.compile(r"nodes?:")
_MAX_DIGITS = 9


def parse_cpus(text: str, topology: Topology, source: str, place: str = "") -> frozenset[int]:
    """The online pCPUs that a CPU list stands for; empty if it comes to nothing.

    Raises `BadInput` (with source and place as given) where `xl` would refuse it, or a CPU or node is not there.
    """
    online = frozenset(cpu.id for cpu in topology.cpus)
    chosen: set[int] = set()
    for part in filter(None, text.split(",")):
        rest = part.removeprefix("^")
        nodes = _NODES.match(rest)
        numbers = rest[nodes.end() :] if nodes else rest
        if numbers == "all":
            if rest != part:
                raise BadInput(source, f'{shown(part)}: "^" cannot go with "all"', place)
            chosen |= online
            continue
        found = parse_range(numbers)
        if found is None:
            problem = (
                f'{shown(part)} is no part of a CPU list (give "3", "0-3", "node:1", "nodes:0-1", "all" or "^...")'
            )
            raise BadInput(source, problem, place)
        if nodes:
            cpus = _cpus_of_nodes(*found, topology, source, place)
        else:
            cpus = _cpus(*found, topology, source, place) & online
        if rest == part:
            chosen |= cpus
        else:
            chosen -= cpus
    return frozenset(chosen)


def format_cpus(cpus: Iterable[int]) -> str:
    """A set of CPUs in the shortest form that `xl` reads: "4-5,7", ascending. The empty set, which `xl` cannot read, is
    the empty string.
    """
    chosen = set(cpus)
    return format_ids(chosen) if chosen else ""


def parse_range(text: str) -> tuple[int, int] | None:
    """First and last of "3" or "0-3"; None where it is no range (backwards, say). Ids are cut off at 10^9."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    first, last = _id(found[1]), _id(found[2] or found[1])
    return (first, last) if first <= last else None


def _id(digits: str) -> int:
    # the length goes first: Python refuses to convert digits by the thousand
    return int(digits) if len(digits.lstrip("0")) <= _MAX_DIGITS else 10**_MAX_DIGITS


def _cpus(first: int, last: int, topology: Topology, source: str, place: str) -> frozenset[int]:
    """The ids in a range, online or not."""
    highest = max(cpus[-1] for cpus in ([topology.cpus[-1].id], topology.offline_cpus) if cpus)
    if last > highest:
        online = format_cpus(cpu.id for cpu in topology.cpus)
        missing = max(first, highest + 1)
        raise BadInput(source, f"CPU {missing} is not there (the machine has CPUs {online})", place)
    return frozenset(range(first, last + 1))


def _cpus_of_nodes(first: int, last: int, topology: Topology, source: str, place: str) -> frozenset[int]:
    """The online CPUs of the nodes in a range."""
    there = topology.node_ids
    nodes = [node for node in there if first <= node <= last]
    if last > there[-1] or not nodes:
        missing = max(first, there[-1] + 1) if nodes else first
        raise BadInput(source, f"node {missing} is not there (the machine has nodes {format_cpus(there)})", place)
    return topology.cpus_of(nodes)
