"""`virsh capabilities`: libvirt's account of a host.

Source: docs/formatcaps.rst and src/conf/schemas/capability.rng of libvirt 9.0 and 11; what a driver puts there is in
src/conf/capabilities.c (Linux) and src/libxl/libxl_capabilities.c (Xen). What follows from there:

- The machine is `host/topology/cells`; a cell is a node, and one without memory has no `<memory>`.
- `core_id` repeats from die to die, so `siblings` tells which CPUs share a core.
- A CPU without attributes has no topology in the kernel, being offline; where all are like that, an older libvirt (or
  a driver without that knowledge) told nobody's.
- `<sibling>` of the Xen driver also names nodes that are absent.
- `<interconnects>` (since 6.6) is the ACPI HMAT: latency in ns, bandwidth in KiB/s; `<cache>` of a cell is a
  memory-side cache.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

from domicile.errors import BadInput
from domicile.topology.check import MAX_CPU_ID, MAX_NODE_ID, checked
from domicile.topology.ids import format_ids
from domicile.topology.model import Cpu, MeasuredMatrix, Node, Topology

__all__ = ["read_libvirt_capabilities"]

MOST_BYTES = 8 << 20
"""65,536 CPUs take 6 MiB."""

MOST_THREADS_PER_CORE = 8
"""No core has more (POWER). The Xen driver on Arm makes siblings of all CPUs, since Xen numbers no cores there."""

ALL_ONES = 0xFFFFFFFF
"""libxl's invalid entry, that libvirt's Xen driver passes on."""

BYTES: dict[str, int] = {"b": 1, "bytes": 1, "byte": 1} | {
    unit: factor
    for power, prefix in enumerate("kmgtpe", 1)
    for unit, factor in (
        (prefix, 1024**power),
        (f"{prefix}ib", 1024**power),
        (f"{prefix}b", 1000**power),
    )
}
"""libvirt's scaled units (virScaleInteger), in lower case."""

OTHER_ROOTS = {
    "domainCapabilities": "is what `virsh domcapabilities` says of guests",
    "domain": "is the XML of a domain",
    "nodeinfo": "is not the host's topology",
}


@dataclass(slots=True)
class _Cells:
    """What is gathered cell by cell."""

    nodes: list[Node] = field(default_factory=list)
    cpus: list[Cpu] = field(default_factory=list)
    bare: list[tuple[int, int]] = field(default_factory=list)
    """CPUs without attributes, with their node."""
    crowded: list[int] = field(default_factory=list)
    """CPUs with more siblings than a core can have."""
    siblings: dict[int, frozenset[int]] = field(default_factory=dict)
    distances: dict[int, dict[int, int]] = field(default_factory=dict)
    sized: bool = False
    notes: list[str] = field(default_factory=list)


def read_libvirt_capabilities(data: bytes, source: str) -> Topology:
    """The machine in the output of `virsh capabilities`.

    Free memory and devices are not in it. Raises `BadInput` for what is not well-formed, is no such XML, or contradicts
    itself.
    """
    root = _parse(data, source)
    topology = root.find("host/topology")
    if topology is None or topology.find("cells") is None:
        raise BadInput(source, "libvirt tells no NUMA topology of this host (no host/topology/cells)")
    cells = _Cells()
    for place, cell in _counted(source, topology, "cells", "cell"):
        _take_cell(source, place, cell, cells)
    online, offline = _split_bare(cells)
    cpus = _by_siblings([*cells.cpus, *online], cells)
    if cells.crowded:
        cells.notes.append(f"cores dropped, more siblings than a core can have: CPUs {format_ids(cells.crowded)}")
    if not cells.sized:
        cells.notes.append("memory sizes not known: no cell has one")
    ids = sorted(node.id for node in cells.nodes)
    latency, bandwidth = _interconnects(source, topology, ids, cells.notes)
    return checked(
        source=source,
        nodes=cells.nodes,
        cpus=cpus,
        distances=_distances(ids, cells),
        latency_ns=latency,
        bandwidth_gbs=bandwidth,
        offline_cpus=offline,
        notes=cells.notes,
    )


def _parse(data: bytes, source: str) -> Element:
    """The root element, `capabilities`."""
    if len(data) > MOST_BYTES:
        raise BadInput(source, f"larger than {MOST_BYTES >> 20} MiB: no libvirt capabilities are")
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except ParseError as error:
        line = error.position[0]
        raise BadInput(source, f"not well-formed XML ({str(error).partition(':')[0]})", f"line {line}") from error
    except DefusedXmlException as error:
        raise BadInput(source, "declares a DTD or entities, which libvirt never does") from error
    except (ValueError, LookupError) as error:
        raise BadInput(source, f"not XML that can be read ({error})") from error
    if root.tag != "capabilities":
        what = OTHER_ROOTS.get(root.tag, f"begins with <{root.tag[:40]}>")
        raise BadInput(source, f"{what}; give the output of `virsh capabilities`")
    return root


def _counted(source: str, parent: Element, group: str, item: str) -> Iterator[tuple[str, Element]]:
    """The items of a group with their places; where the group says how many they are, it has to be right."""
    found = parent.find(group)
    items = [] if found is None else found.findall(item)
    told = None if found is None else found.get("num")
    if told is not None and told != str(len(items)):
        raise BadInput(source, f"says that there are {told[:20]}, has {len(items)}", f"<{group}>")
    if len(items) > (MAX_NODE_ID if item == "cell" else MAX_CPU_ID) + 1:
        raise BadInput(source, f"has {len(items)}, more than any machine", f"<{group}>")
    for position, element in enumerate(items):
        yield f"{item} {element.get('id', f'number {position + 1}')[:20]}", element


def _take_cell(source: str, place: str, cell: Element, cells: _Cells) -> None:
    """A node with its CPUs and distances."""
    node = _number(source, place, cell, "id")
    memory = cell.find("memory")
    cells.sized |= memory is not None
    cells.nodes.append(
        Node(
            node,
            memory_mib=0 if memory is None else _bytes(source, place, memory.text, memory.get("unit", "KiB")) >> 20,
            memory_side_cache_mib=max((_cache(source, place, cache) for cache in cell.findall("cache")), default=0)
            >> 20,
        )
    )
    for sibling in cell.findall("distances/sibling"):
        other = _number(source, place, sibling, "id")
        distance = _number(source, place, sibling, "value", lowest=-1)
        cells.distances.setdefault(node, {})[other] = distance
    for where, cpu in _counted(source, cell, "cpus", "cpu"):
        _take_cpu(source, f"{place}, {where}", cpu, node, cells)


def _take_cpu(source: str, place: str, cpu: Element, node: int, cells: _Cells) -> None:
    """A CPU of a node."""
    number = _number(source, place, cpu, "id")
    if cpu.get("core_id") is None and cpu.get("siblings") is None:
        cells.bare.append((number, node))
        return
    core, socket = (
        _number(source, place, cpu, key, lowest=-1) if cpu.get(key) else -1 for key in ("core_id", "socket_id")
    )
    siblings = cpu.get("siblings")
    if siblings is not None:
        threads = _cpuset(source, place, siblings)
        if threads is None:
            cells.crowded.append(number)
            core = -1
        else:
            cells.siblings[number] = threads | {number}
    cells.cpus.append(Cpu(number, None if core < 0 else core, None if socket < 0 else socket, node))


def _split_bare(cells: _Cells) -> tuple[list[Cpu], list[int]]:
    """CPUs without attributes: all of them online where no CPU has any, else offline."""
    if not cells.bare:
        return [], []
    if cells.cpus:
        offline = [cpu for cpu, _ in cells.bare]
        cells.notes.append(f"CPUs without a topology, so offline: {format_ids(offline)}")
        return [], offline
    cells.notes.append("cores and sockets not known: no CPU has any")
    return [Cpu(cpu, None, None, node) for cpu, node in cells.bare], []


def _by_siblings(cpus: Sequence[Cpu], cells: _Cells) -> list[Cpu]:
    """The CPUs with core ids that are equal just for siblings: the source's own where they are, else renumbered."""
    by_core: dict[tuple[int | None, int | None, int | None], set[int]] = defaultdict(set)
    online = {cpu.id for cpu in cpus}
    for cpu in cpus:
        by_core[cpu.socket, cpu.node, cpu.core].add(cpu.id)
    told = {cpu: siblings & online for cpu, siblings in cells.siblings.items()}
    agree = all(
        told[cpu.id] == by_core[cpu.socket, cpu.node, cpu.core]
        for cpu in cpus
        if cpu.id in told and cpu.core is not None
    )
    if agree:
        return list(cpus)
    if any(told.get(other) != siblings for siblings in told.values() for other in siblings):
        cells.notes.append("siblings dropped: they contradict each other")
        return list(cpus)
    cells.notes.append("cores renumbered by siblings: core_id repeats within a socket, or differs between siblings")
    return [Cpu(cpu.id, min(told[cpu.id]) if cpu.id in told else None, cpu.socket, cpu.node) for cpu in cpus]


def _distances(ids: Sequence[int], cells: _Cells) -> list[list[int]] | None:
    """The matrix of the nodes that are there, None where there is none or not for all pairs."""
    if not cells.distances:
        return None
    missing = next(((a, b) for a in ids for b in ids if b not in cells.distances.get(a, {})), None)
    if missing:
        cells.notes.append(f"distances dropped: none from node {missing[0]} to node {missing[1]}")
        return None
    return [[cells.distances[a][b] for b in ids] for a in ids]


def _interconnects(
    source: str, topology: Element, ids: Sequence[int], notes: list[str]
) -> tuple[MeasuredMatrix | None, MeasuredMatrix | None]:
    """Latency in ns and bandwidth in GB/s, as the HMAT has them for reading; figures for a cache are left out."""

    def matrix(kind: str, convert: Callable[[str, Element], float]) -> MeasuredMatrix | None:
        figures: dict[tuple[int, int], float] = {}
        for element in topology.findall(f"interconnects/{kind}"):
            if element.get("cache", "0") != "0" or element.get("type") not in ("read", "access"):
                continue
            place = f"<{kind}>"
            pair = _number(source, place, element, "initiator"), _number(source, place, element, "target")
            figure = convert(place, element)
            if not set(pair) <= set(ids):
                notes.append(f"{kind} from node {pair[0]} to {pair[1]} dropped: no such nodes")
            elif figure > 0 and (element.get("type") == "read" or pair not in figures):
                figures[pair] = figure
        return tuple(tuple(figures.get((a, b)) for b in ids) for a in ids) if figures else None

    return (
        matrix("latency", lambda place, element: float(_number(source, place, element, "value"))),
        matrix(
            "bandwidth",
            lambda place, element: _bytes(source, place, element.get("value"), element.get("unit", "KiB")) / 1e9,
        ),
    )


def _number(source: str, place: str, element: Element, key: str, lowest: int = 0) -> int:
    """An attribute that is a whole number of at most 64 bits; libvirt's 32-bit -1 is -1."""
    text = element.get(key)
    if text is None:
        raise BadInput(source, f"<{element.tag}> has no {key}", place)
    if not re.fullmatch(r"-?[0-9]{1,18}", text) or int(text) < lowest:
        raise BadInput(source, f"{key}={text[:40]!r} of <{element.tag}> is no number", place)
    number = int(text)
    return -1 if lowest < 0 and number == ALL_ONES else number


def _bytes(source: str, place: str, amount: str | None, unit: str) -> int:
    """An amount with libvirt's unit, in bytes."""
    factor = BYTES.get(unit.strip().lower())
    text = (amount or "").strip()
    if factor is None:
        raise BadInput(source, f"{unit[:20]!r} is no unit of memory", place)
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadInput(source, f"{text[:40]!r} is no amount of memory", place)
    return int(text) * factor


def _cache(source: str, place: str, cache: Element) -> int:
    """The size of a memory-side cache, in bytes."""
    size = cache.find("size")
    return 0 if size is None else _bytes(source, place, size.get("value"), size.get("unit", "KiB"))


def _cpuset(source: str, place: str, text: str) -> frozenset[int] | None:
    """libvirt's form of a set of CPUs, `0-3,8`; None where it has more than a core's."""
    if not re.fullmatch(r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*", text):
        raise BadInput(source, f"siblings={text[:40]!r} is no set of CPUs", place)
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        run = range(int(first), int(last or first) + 1)
        if len(cpus) + len(run) > MOST_THREADS_PER_CORE:
            return None
        cpus.update(run)
    return frozenset(cpus)
