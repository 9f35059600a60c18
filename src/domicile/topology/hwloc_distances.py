"""Distances, latency and bandwidth in hwloc's XML.

Sources: v1 `<distances>` (hwloc 1.11, src/topology-xml.c: factors of a base, one matrix for all objects at a depth
below the object that it is in); v2 and v3 `<distances2>` (include/hwloc/distances.h: bits of the kind) and `<memattr>`
(include/hwloc/memattrs.h: latency in ns, bandwidth in MiB/s).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domicile.errors import BadInput
from domicile.topology.bitmaps import ids_of, mask_of, parse_hwloc_bitmap
from domicile.topology.check import slit_problem
from domicile.topology.hwloc_document import Document, Matrix, MemoryAttribute, Object
from domicile.topology.measured import gbs_of_mib_per_s, mean_figure

__all__ = ["read_distances", "read_measured"]

KIND_LATENCY = 1 << 2
MAX_FIGURE = 1e12
MAX_VALUES = 50_000
MEASURED = [f"{role}{what}" for what in ("Latency", "Bandwidth") for role in ("", "Read", "Write")]
IO_TYPES = ("Bridge", "PCIDev", "OSDev", "Misc")

Rows = list[list[int]]


def read_distances(document: Document, nodes: Sequence[Object], ids: Sequence[int]) -> tuple[Rows | None, list[str]]:
    """The SLIT over all nodes, None where there is none; `nodes` in the document's order, `ids` ascending."""
    notes: list[str] = []
    for matrix in document.matrices:
        table = _v1_table(document, matrix, nodes) if document.major == 1 else _v2_table(document, matrix)
        if table is None:
            continue
        at = {node: position for position, node in enumerate(table.ids)}
        if not set(ids) <= at.keys():
            notes.append("a matrix of distances covers only some of the nodes: dropped")
            continue
        values = [_near_whole(table.base * _number(document, text)) for text in table.values]
        rows = [[values[at[row] * len(at) + at[column]] for column in ids] for row in ids]
        if not all(figure == round(figure) for row in rows for figure in row):
            notes.append("a matrix of latencies is no table of distances: dropped")
            continue
        whole = [[round(figure) for figure in row] for row in rows]
        problem = slit_problem(whole, len(ids))
        if problem is None:
            return whole, notes
        notes.append(f"distances dropped: {problem}")
    return None, notes


def read_measured(
    document: Document, nodes: Mapping[int, int], owner: Mapping[int, int]
) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """Latency in ns and bandwidth in GB/s by (node of the CPUs, node of the memory).

    `nodes` gives the node of each object by its `gp_index`, `owner` the node of each CPU. A figure for some CPUs of a
    node is not taken for all of them.
    """
    wanted = [attribute for attribute in document.memory_attributes if attribute.name in MEASURED]
    if sum(len(attribute.values) for attribute in wanted) > MAX_VALUES:
        raise BadInput(document.source, f"more than {MAX_VALUES} values of memory attributes", "memattr")
    reader = _AttributeReader(document, nodes, owner)
    figures = {attribute.name: reader.figures(attribute) for attribute in wanted}

    def combined(what: str) -> dict[tuple[int, int], float]:
        whole = dict(figures.get(what, {}))
        read, write = figures.get(f"Read{what}", {}), figures.get(f"Write{what}", {})
        for pair in read.keys() | write.keys():
            mean = mean_figure(read.get(pair), write.get(pair))
            if mean is not None:
                whole.setdefault(pair, mean)
        return whole

    return combined("Latency"), {pair: gbs_of_mib_per_s(figure) for pair, figure in combined("Bandwidth").items()}


@dataclass(frozen=True, slots=True)
class _Table:
    """A matrix about nodes: row by row, each value a multiple of the base."""

    ids: list[int]
    values: list[str]
    base: float


def _v1_table(document: Document, matrix: Matrix, nodes: Sequence[Object]) -> _Table | None:
    """None if the matrix is about other objects than the nodes."""
    about = matrix.about
    assert about is not None  # noqa: S101 (for the type checker: v1's matrices are in objects)
    below = [node for node in nodes if node is about or about in node.ancestors()]
    depth = max((_depth_below(about, node) for node in below), default=0)
    count = matrix.attributes.get("nbobjs", "")
    if not below or count != str(len(below)) or matrix.attributes.get("relative_depth", "") != str(depth):
        return None
    base = _number(document, matrix.attributes.get("latency_base", "1"))
    return _table(document, [document.number(node, "os_index") or 0 for node in below], matrix.values, base)


def _v2_table(document: Document, matrix: Matrix) -> _Table | None:
    """None if the matrix is about other objects than the nodes, or no latencies."""
    attributes = matrix.attributes
    if attributes.get("type") != "NUMANode" or attributes.get("indexing", "os") != "os":
        return None
    kind = attributes.get("kind", "")
    if not (kind.isascii() and kind.isdigit() and len(kind) < 10):
        raise BadInput(document.source, f"kind={kind[:20]!r} is no number", "distances2")
    if not int(kind) & KIND_LATENCY:
        return None
    ids = [int(_number(document, text)) for text in matrix.indexes]
    if attributes.get("nbobjs", "") != str(len(ids)):
        raise BadInput(document.source, f"{len(ids)} indexes, not as many as nbobjs says", "distances2")
    return _table(document, ids, matrix.values, 1)


def _table(document: Document, ids: list[int], values: list[str], base: float) -> _Table:
    if len(set(ids)) != len(ids):
        raise BadInput(document.source, "an object is there twice", "distances")
    if len(values) != len(ids) ** 2:
        raise BadInput(document.source, f"{len(values)} values for {len(ids)} objects", "distances")
    return _Table(ids, values, base)


def _depth_below(top: Object, one: Object) -> int:
    """How many levels of CPU-side objects an object is below another."""
    depth = 0
    while one is not top and one.parent is not None:
        depth += one.type not in IO_TYPES
        one = one.parent
    return depth


def _number(document: Document, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_FIGURE:
        raise BadInput(document.source, f"{text[:24]!r} is no distance", "distances")
    return value


def _near_whole(value: float) -> float:
    """v1's factors have six decimals: a distance of 17 may come back as 16.99999."""
    return round(value) if abs(value - round(value)) < 1e-3 else value


class _AttributeReader:
    """Memory attributes by pairs of nodes."""

    def __init__(self, document: Document, nodes: Mapping[int, int], owner: Mapping[int, int]) -> None:
        self._document = document
        self._nodes = nodes
        self._owner = owner
        self._cpus = mask_of(owner)
        self._sizes = Counter(owner.values())
        self._covered: dict[str, list[int]] = {}

    def figures(self, attribute: MemoryAttribute) -> dict[tuple[int, int], float]:
        """One attribute's values; 0 means that nobody measured."""
        found: dict[tuple[int, int], float] = {}
        for value in attribute.values:
            memory = self._node(value, "target")
            figure = _number(self._document, value.get("value", ""))
            if memory is not None and figure:
                found |= {(node, memory): figure for node in self._initiators(value)}
        return found

    def _node(self, value: Mapping[str, str], role: str) -> int | None:
        index = value.get(f"{role}_obj_gp_index", "")
        if value.get(f"{role}_obj_type") != "NUMANode" or not (index.isascii() and index.isdigit()):
            return None
        return self._nodes.get(int(index[:20]))

    def _initiators(self, value: Mapping[str, str]) -> list[int]:
        """The nodes all of whose CPUs a figure is for."""
        text = value.get("initiator_cpuset")
        if not text:
            node = self._node(value, "initiator")
            return [node] if node is not None and node in self._sizes else []
        if text not in self._covered:
            try:
                cpus = parse_hwloc_bitmap(text) & self._cpus
            except ValueError as error:
                raise BadInput(self._document.source, f"initiator_cpuset: {error}", "memattr_value") from None
            counts = Counter(self._owner[cpu] for cpu in ids_of(cpus))
            self._covered[text] = [node for node, count in counts.items() if count == self._sizes[node]]
        return self._covered[text]
