"""Machine files: a machine described by hand or by measurement, in TOML or JSON.

There are two forms. What `domicile topology --json` prints is one. The other describes a regular machine in few lines,
and carries what somebody measured on it; nodes are 0 to `nodes` - 1, CPUs are numbered node by node with SMT siblings
side by side, as Xen does:

    name = "…"                   cpu = "2x Intel Xeon …"        source = "who measured"      note = "…"
    nodes = 4                    how many, those without CPUs included
    cpu_nodes = [0, 1]           those with CPUs (all; else as many as `latency` has rows, from 0)
    sockets = 2                  (from `cpu`: "2x", "4 sockets", "4 packages"; else one for each node with CPUs)
    cores_per_node = 12          threads_per_core = 2           cpus = 96
    memory_mib = 65536           of every node, or a list of one figure for each
    memory_kinds = ["dram", …]   one for each node
    slit = [[10, 21], [21, 10]]
    latency = [[…]]              latency_unit = "ns" or "cycles" (with clock_ghz), a comment behind a comma
    read_bandwidth = [[…]]       write_bandwidth, one_core_read_bandwidth, one_core_write_bandwidth alike;
                                 read_bandwidth_unit = "GB/s" (for all four)
    loaded_latency = [[GB/s, ns], …]      peak_gbs = {reads = 225.1}      core_to_core_ns = {…}
    thread_scan_gbs = {threads = [1, 2], local = [45, 49]}
    devices = [{address = "0000:41:00.0", node = 1, name = "…"}]
    assumed = ["memory_mib: the source gives none"]     goes into the notes

Matrices have a row for each node with CPUs (or for each node) and a column for each node. Only `nodes` is needed; what
is missing and cannot be worked out is assumed, and the notes say so. Keys of other names are kept, and noted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from domicile.errors import BadInput
from domicile.topology.as_json import Mib, one_line, pci_device, topology_from_json
from domicile.topology.check import MAX_CPU_ID, MAX_NODE_ID, checked
from domicile.topology.ids import format_ids
from domicile.topology.model import Cpu, MeasuredMatrix, MemoryKind, Node, Topology

__all__ = ["MachineFile", "read_machine_file"]

MOST_BYTES = 16 << 20
MOST_BYTES_TOML = 256 << 10
"""Python's own TOML parser is slow; 64 nodes with four matrices stay below this."""

DEEP_KEY = re.compile(rb"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
"""A key of this many parts: `tomllib` keeps all beginnings of a key, so that a long one takes all memory."""

ASSUMED_CORES_PER_NODE = 4
ASSUMED_MEMORY_MIB = 16384

BANDWIDTH_UNITS = {"gb/s": 1.0, "mb/s": 1e-3, "gib/s": 1.073741824, "mib/s": 1.048576e-3}
LATENCY_UNITS = {"ns": 1.0, "us": 1e3, "µs": 1e3}

Matrix = list[list[float | None]]


@dataclass(frozen=True)
class MachineFile:
    """A machine and what was measured on it beyond the topology.

    Matrices have the rows and columns of the topology's. `loaded_latency` is (total GB/s, ns) points of one node's
    cores reading their own memory under rising load, in the order measured; `thread_scan_gbs` is bandwidth by where the
    memory is, for as many threads as its list "threads" says. `provenance` says who measured; `extra` has keys of
    other names.
    """

    topology: Topology
    cpu: str = ""
    provenance: str = ""
    note: str = ""
    write_bandwidth_gbs: MeasuredMatrix | None = None
    one_core_read_bandwidth_gbs: MeasuredMatrix | None = None
    one_core_write_bandwidth_gbs: MeasuredMatrix | None = None
    loaded_latency: tuple[tuple[float, float], ...] = ()
    loaded_latency_meaning: str = ""
    peak_gbs: Mapping[str, float] = field(default_factory=dict)
    core_to_core_ns: Mapping[str, float] = field(default_factory=dict)
    thread_scan_gbs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)


class _Device(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    node: int | None = None
    name: str = ""


class _Machine(msgspec.Struct):
    """The regular form as it is in the file."""

    nodes: int
    name: str = ""
    cpu: str = ""
    source: str = ""
    note: str = ""
    cpu_nodes: list[int] | None = None
    sockets: int | None = None
    cpus: int | None = None
    cores_per_node: int | None = None
    threads_per_core: int | None = None
    memory_mib: Mib | list[Mib] | None = None
    memory_kinds: list[MemoryKind] | None = None
    slit: list[list[int]] | None = None
    latency: Matrix | None = None
    latency_unit: str = ""
    clock_ghz: float | None = None
    clock_ghz_inferred: float | None = None
    read_bandwidth: Matrix | None = None
    read_bandwidth_unit: str = ""
    write_bandwidth: Matrix | None = None
    one_core_read_bandwidth: Matrix | None = None
    one_core_write_bandwidth: Matrix | None = None
    loaded_latency: list[tuple[float, float]] = []
    loaded_latency_local: str = ""
    peak_gbs: dict[str, float] = {}
    core_to_core_ns: dict[str, float] = {}
    thread_scan_gbs: dict[str, list[float]] = {}
    devices: list[_Device] = []
    assumed: list[str] = []


def read_machine_file(data: bytes, source: str) -> MachineFile:
    """Read a machine file of either form, TOML or JSON.

    Raises `BadInput` for what is neither, for values of the wrong kind or size, and for a machine that cannot be.
    """
    values = _parse(data, source)
    if not isinstance(values, dict) or "nodes" not in values:
        raise BadInput(source, "not a machine file: no `nodes` in it")
    if isinstance(values["nodes"], list):
        return MachineFile(topology_from_json(values, source))
    try:
        machine = msgspec.convert(values, _Machine)
    except msgspec.ValidationError as error:
        raise BadInput(source, one_line(error)) from error
    extra = {key: value for key, value in values.items() if key not in _Machine.__struct_fields__}
    return _Builder(machine, source).build(extra)


def _parse(data: bytes, source: str) -> Any:
    """The values in the file."""
    if len(data) > MOST_BYTES:
        raise BadInput(source, f"larger than {MOST_BYTES >> 20} MiB: no machine file is")
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise BadInput(source, "empty")
    try:
        if text.startswith((b"{", b"[{")):
            return msgspec.json.decode(text)
        if len(text) > MOST_BYTES_TOML:
            raise BadInput(source, f"larger than {MOST_BYTES_TOML >> 10} KiB: give a machine this large as JSON")
        if DEEP_KEY.search(text):
            raise BadInput(source, "nested too deeply for a machine file")
        return msgspec.toml.decode(text)
    except RecursionError as error:
        raise BadInput(source, "nested too deeply for a machine file") from error
    except ValueError as error:  # msgspec's and tomllib's, and UnicodeDecodeError
        raise BadInput(source, f"neither JSON nor TOML that can be read: {one_line(error)}") from error


def _unit(text: str) -> str:
    """A unit without the comment behind it."""
    return re.split(r"[,;]", text, maxsplit=1)[0].strip().lower()


class _Builder:
    """Turns the regular form into records. `notes` gathers what had to be assumed."""

    def __init__(self, machine: _Machine, source: str) -> None:
        self.machine = machine
        self.source = source
        self.notes = [f"assumed: {text}" for text in machine.assumed]
        if not 0 < machine.nodes <= MAX_NODE_ID + 1:
            raise self.bad(f"{machine.nodes}: 1 to {MAX_NODE_ID + 1} nodes", "nodes")
        self.cpu_nodes = self._cpu_nodes()

    def bad(self, problem: str, place: str) -> BadInput:
        """An error at a key of the file."""
        return BadInput(self.source, problem, place)

    def build(self, extra: Mapping[str, object]) -> MachineFile:
        """Everything put together and checked."""
        machine = self.machine
        if extra:
            self.notes.append(f"not used: {', '.join(sorted(extra))}"[:200])
        latency = self._latency()
        read, write, one_read, one_write = (
            self._bandwidth(key)
            for key in ("read_bandwidth", "write_bandwidth", "one_core_read_bandwidth", "one_core_write_bandwidth")
        )
        for key in ("peak_gbs", "core_to_core_ns"):
            for name, figure in getattr(machine, key).items():
                self._positive(figure, f"{key}.{name[:40]}")
        for point in machine.loaded_latency:
            for figure in point:
                self._positive(figure, "loaded_latency")
        topology = checked(
            source=self.source,
            nodes=self._nodes(),
            cpus=self._cpus(),
            distances=machine.slit,
            devices=[pci_device(self.source, one.address, one.node, one.name) for one in machine.devices],
            latency_ns=latency,
            bandwidth_gbs=read,
            name=machine.name,
            notes=[*self.notes, *([machine.note] if machine.note else [])],
        )
        return MachineFile(
            topology=topology,
            cpu=machine.cpu,
            provenance=machine.source,
            note=machine.note,
            write_bandwidth_gbs=write,
            one_core_read_bandwidth_gbs=one_read,
            one_core_write_bandwidth_gbs=one_write,
            loaded_latency=tuple(machine.loaded_latency),
            loaded_latency_meaning=machine.loaded_latency_local,
            peak_gbs=machine.peak_gbs,
            core_to_core_ns=machine.core_to_core_ns,
            thread_scan_gbs=machine.thread_scan_gbs,
            extra=extra,
        )

    def _cpu_nodes(self) -> list[int]:
        """The nodes with CPUs: as told, as the text beside the unit tells, or as many as the matrices have rows."""
        machine = self.machine
        nodes = range(machine.nodes)
        if machine.cpu_nodes is not None:
            if not machine.cpu_nodes or sorted(set(machine.cpu_nodes)) != machine.cpu_nodes:
                raise self.bad("give each node once, ascending", "cpu_nodes")
            if machine.cpu_nodes[0] < 0 or machine.cpu_nodes[-1] >= machine.nodes:
                raise self.bad(f"the nodes are 0 to {machine.nodes - 1}", "cpu_nodes")
            return machine.cpu_nodes
        matrices = {"latency": machine.latency, "read_bandwidth": machine.read_bandwidth}
        key, rows = next(
            ((key, len(matrix)) for key, matrix in matrices.items() if matrix is not None), ("", machine.nodes)
        )
        if not 0 < rows <= machine.nodes:
            raise self.bad(f"has {rows} rows for {machine.nodes} nodes", key)
        told = re.search(r"CPU nodes (\d{1,4})-(\d{1,4})", machine.latency_unit)
        if told and int(told[2]) < machine.nodes and int(told[2]) - int(told[1]) + 1 == rows:
            return list(range(int(told[1]), int(told[2]) + 1))
        if rows < machine.nodes:
            self.notes.append(
                f"assumed: nodes {format_ids(nodes[rows:])} have no CPUs, the matrices having {rows} rows"
            )
        return list(nodes[:rows])

    def _cores(self) -> tuple[int, int]:
        """Cores of each node with CPUs, and threads of each core."""
        machine = self.machine
        for key in ("cpus", "cores_per_node", "threads_per_core", "sockets"):
            value = getattr(machine, key)
            if value is not None and not 0 < value <= MAX_CPU_ID + 1:
                raise self.bad(f"{value} cannot be", key)
        cores, threads, nodes = machine.cores_per_node, machine.threads_per_core, len(self.cpu_nodes)
        if machine.cpus is None and cores is None:
            self.notes.append(f"assumed: {ASSUMED_CORES_PER_NODE} cores a node, the file not telling")
            cores = ASSUMED_CORES_PER_NODE
        if threads is None:
            threads = 1 if machine.cpus is None or cores is None else max(machine.cpus // (cores * nodes), 1)
        if cores is None:
            cores = max((machine.cpus or 0) // (threads * nodes), 1)
        total = cores * threads * nodes
        if machine.cpus is not None and machine.cpus != total:
            raise self.bad(f"{machine.cpus} is not {nodes} nodes x {cores} cores x {threads} threads", "cpus")
        if total > MAX_CPU_ID + 1:
            raise self.bad(f"{total} CPUs are more than {MAX_CPU_ID + 1}", "cores_per_node")
        return cores, threads

    def _sockets(self, cores: int) -> int:
        """How many sockets: told, or read from the CPU's description, or one for each node with CPUs."""
        machine = self.machine
        if machine.sockets is not None:
            if cores % machine.sockets:
                raise self.bad(f"{cores} cores cannot be shared out evenly over {machine.sockets} sockets", "sockets")
            return machine.sockets
        described = re.search(r"\b([1-9]\d?)(?:x| ?sockets?| ?packages?)\b", machine.cpu)
        nodes = len(self.cpu_nodes)
        if described and nodes % int(described[1]) == 0:
            return int(described[1])
        self.notes.append("assumed: a socket for each node with CPUs, the file not telling")
        return nodes

    def _cpus(self) -> list[Cpu]:
        """The CPUs, numbered node by node, siblings side by side."""
        cores, threads = self._cores()
        total = cores * len(self.cpu_nodes)
        per_socket = total // self._sockets(total)
        return [
            Cpu(id=core * threads + thread, core=core % per_socket, socket=core // per_socket, node=node)
            for position, node in enumerate(self.cpu_nodes)
            for core in range(position * cores, (position + 1) * cores)
            for thread in range(threads)
        ]

    def _nodes(self) -> list[Node]:
        """The nodes with their memory."""
        machine = self.machine
        sizes = machine.memory_mib
        if sizes is None:
            self.notes.append(f"assumed: {ASSUMED_MEMORY_MIB >> 10} GiB of memory a node, the file not telling")
            sizes = ASSUMED_MEMORY_MIB
        if isinstance(sizes, int):
            sizes = [sizes] * machine.nodes
        kinds = machine.memory_kinds or self._kinds()
        for key, values in (("memory_mib", sizes), ("memory_kinds", kinds)):
            if len(values) != machine.nodes:
                raise self.bad(f"has {len(values)} entries for {machine.nodes} nodes", key)
        return [Node(node, size, kind=kind) for node, (size, kind) in enumerate(zip(sizes, kinds, strict=True))]

    def _kinds(self) -> list[MemoryKind]:
        """DRAM; where the description names another kind, that one for the nodes without CPUs."""
        kinds = [MemoryKind.DRAM] * self.machine.nodes
        named = [kind for kind in (MemoryKind.CXL, MemoryKind.HBM) if kind.upper() in self.machine.cpu]
        bare = [node for node in range(self.machine.nodes) if node not in self.cpu_nodes]
        if len(named) == 1 and bare:
            self.notes.append(f"assumed: nodes {format_ids(bare)} are {named[0].upper()}, as `cpu` mentions it")
            for node in bare:
                kinds[node] = named[0]
        return kinds

    def _latency(self) -> MeasuredMatrix | None:
        """Latency in ns."""
        machine = self.machine
        if machine.latency is None:
            return None
        unit = _unit(machine.latency_unit)
        clock = machine.clock_ghz or machine.clock_ghz_inferred
        if unit in ("cycles", "cycle"):
            if clock is None:
                raise self.bad("in cycles; give clock_ghz too", "latency_unit")
            self._positive(clock, "clock_ghz")
            if machine.clock_ghz is None:
                self.notes.append(f"latency in ns follows from a clock of {clock:g} GHz, which is inferred")
            return self._matrix("latency", machine.latency, 1 / clock)
        if unit not in LATENCY_UNITS:
            raise self.bad(f'{machine.latency_unit[:40]!r}; give "ns" or "cycles"', "latency_unit")
        return self._matrix("latency", machine.latency, LATENCY_UNITS[unit])

    def _bandwidth(self, key: str) -> MeasuredMatrix | None:
        """A bandwidth in GB/s."""
        matrix: Matrix | None = getattr(self.machine, key)
        if matrix is None:
            return None
        text = self.machine.read_bandwidth_unit
        unit = _unit(text)
        if not unit:
            self.notes.append(f"assumed: {key} is in GB/s, the file not telling")
        elif unit not in BANDWIDTH_UNITS:
            raise self.bad(f'{text[:40]!r}; give "GB/s"', "read_bandwidth_unit")
        return self._matrix(key, matrix, BANDWIDTH_UNITS.get(unit, 1.0))

    def _matrix(self, key: str, rows: Matrix, factor: float) -> MeasuredMatrix:
        """A matrix with a row and a column for each node, rounded to three digits; rows that are not there are None."""
        nodes = self.machine.nodes
        if len(rows) not in (nodes, len(self.cpu_nodes)):
            raise self.bad(f"has {len(rows)} rows for {nodes} nodes, {len(self.cpu_nodes)} with CPUs", key)
        at = range(nodes) if len(rows) == nodes else self.cpu_nodes
        full: list[tuple[float | None, ...]] = [(None,) * nodes] * nodes
        for number, (node, row) in enumerate(zip(at, rows, strict=True), 1):
            if len(row) != nodes:
                raise self.bad(f"has {len(row)} columns for {nodes} nodes", f"{key}, row {number}")
            full[node] = tuple(
                None if figure is None else round(self._positive(figure, f"{key}, row {number}") * factor, 3)
                for figure in row
            )
        return tuple(full)

    def _positive(self, figure: float, place: str) -> float:
        """The figure if it can be a measured one."""
        if not 0 < figure < math.inf:
            raise self.bad(f"{figure} cannot be measured", place)
        return figure
