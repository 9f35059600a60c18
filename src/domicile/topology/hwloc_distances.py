"""Distances, latency and bandwidth in hwloc's XML.

Sources: v1 `<distances>` (hwloc 1.11, src/topology-xml.c: factors of a base, one matrix for all objects at a depth
below the object that it is in); v2 and v3 `<distances2>` (include/hwloc/distances.h: bits of the kind) and `<memattr>`
(include/hwloc/memattrs.h: latency in ns, bandwidth in MiB/s).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from domicile.errors import BadInput
from domicile.topology.bitmaps import parse_hwloc_bitmap
from domicile.topology.check import slit_problem
from domicile.topology.hwloc_document import Document, Matrix, MemoryAttribute, Object
from domicile.topology.measured import gbs_of_mib_per_s, mean_figure

__all__ = ["read_distances", "read_measured"]

KIND_LATENCY = 1 << 2
MAX_FIGURE = 1e12
IO_TYPES = ("Bridge", "PCIDev", "OSDev", "Misc")

Rows = list[list[int]]


def read_distances(document: Document, nodes: Sequence[Object], ids: Sequence[int]) -> tuple[Rows | None, list[str]]:
    """The SLIT over all nodes, None where there is none; `nodes` in the document's order, `ids` ascending."""
    notes: list[str] = []
    for matrix in document.matrices:
        table = _v1_table(document, matrix, nodes) if document.major == 1 else _v2_table(document, matrix)
        if table is None:
            continue
        if not set(ids) <= {cpus for cpus, _ in table}:
            notes.append("a matrix of distances covers only some of the nodes: dropped")
            continue
        rows = [[table[row, column] for column in ids] for row in ids]
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
    document: Document, nodes: Mapping[int, int], cpus_of: Mapping[int, int]
) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """Latency in ns and bandwidth in GB/s by (node of the CPUs, node of the memory).

    `nodes` gives the node of each object by its `gp_index`, `cpus_of` each node's CPUs as a set. A figure for some CPUs
    of a node is not taken for all of them.
    """
    by_name = {attribute.name: attribute for attribute in document.memory_attributes}

    def figures(what: str) -> dict[tuple[int, int], float]:
        whole = _values(document, by_name.get(what), nodes, cpus_of)
        read = _values(document, by_name.get(f"Read{what}"), nodes, cpus_of)
        write = _values(document, by_name.get(f"Write{what}"), nodes, cpus_of)
        for pair in read.keys() | write.keys():
            mean = mean_figure(read.get(pair), write.get(pair))
            if mean is not None:
                whole.setdefault(pair, mean)
        return whole

    bandwidth = {pair: gbs_of_mib_per_s(figure) for pair, figure in figures("Bandwidth").items()}
    return figures("Latency"), bandwidth


def _v1_table(document: Document, matrix: Matrix, nodes: Sequence[Object]) -> dict[tuple[int, int], float] | None:
    """By pairs of node ids; None if the matrix is about other objects than the nodes."""
    about = matrix.about
    assert about is not None  # noqa: S101 (for the type checker: v1's matrices are in objects)
    below = [node for node in nodes if node is about or about in node.ancestors()]
    depth = max((_depth_below(about, node) for node in below), default=0)
    count = matrix.attributes.get("nbobjs", "")
    if not below or count != str(len(below)) or matrix.attributes.get("relative_depth", "") != str(depth):
        return None
    base = _number(document, matrix.attributes.get("latency_base", "1"))
    ids = [document.number(node, "os_index") or 0 for node in below]
    # the factors have six decimals: a distance of 17 may come back as 16.999999
    return _table(document, ids, [_near_whole(base * _number(document, text)) for text in matrix.values])


def _v2_table(document: Document, matrix: Matrix) -> dict[tuple[int, int], float] | None:
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
    return _table(document, ids, [_number(document, text) for text in matrix.values])


def _table(document: Document, ids: list[int], values: list[float]) -> dict[tuple[int, int], float]:
    if len(set(ids)) != len(ids):
        raise BadInput(document.source, "an object is there twice", "distances")
    if len(values) != len(ids) ** 2:
        raise BadInput(document.source, f"{len(values)} values for {len(ids)} objects", "distances")
    pairs = ((row, column) for row in ids for column in ids)
    return dict(zip(pairs, values, strict=True))


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
    return round(value) if abs(value - round(value)) < 1e-3 else value


def _values(
    document: Document, attribute: MemoryAttribute | None, nodes: Mapping[int, int], cpus_of: Mapping[int, int]
) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for value in attribute.values if attribute else ():
        target = value.get("target_obj_gp_index", "")
        if value.get("target_obj_type") != "NUMANode" or not (target.isascii() and target.isdigit()):
            continue
        memory = nodes.get(int(target[:20]))
        figure = _number(document, value.get("value", ""))
        if memory is None or not figure:
            continue
        initiator = _initiator(document, value, nodes, cpus_of)
        for node, cpus in cpus_of.items():
            if cpus and not cpus & ~initiator:
                found[node, memory] = figure
    return found


def _initiator(
    document: Document, value: Mapping[str, str], nodes: Mapping[int, int], cpus_of: Mapping[int, int]
) -> int:
    """The set of CPUs that a figure is for."""
    text = value.get("initiator_cpuset")
    index = value.get("initiator_obj_gp_index", "")
    if text:
        try:
            return parse_hwloc_bitmap(text)
        except ValueError as error:
            raise BadInput(document.source, f"initiator_cpuset: {error}", "memattr_value") from None
    if value.get("initiator_obj_type") == "NUMANode" and index.isascii() and index.isdigit():
        return cpus_of.get(nodes.get(int(index[:20]), -1), 0)
    return 0
