"""The files of `place --pool`: hosts and guests as JSON lines, guests also as `xl.cfg`.

A line of the hosts' file:

    {"name": "h1", "machine": "4node", "free_mib": [900, 2048, 512, 0], "load_vcpus": [1.5, 0, 0, 2]}

`machine` is a preset's name, a file that `domicile topology` reads, or an object in the form of a machine file. The
rest is by node, in the order of its nodes: free memory (else all that the machine says), busy vCPUs (else none), and
how many domains they belong to (else one for each busy vCPU, rounded up). A line of the guests' file:

    {"name": "web1", "vcpus": 4, "memory_mib": 8192, "overhead_mib": 60, "load_vcpus": 1.5}

`overhead_mib` is 0 unless given; `load_vcpus`, how many vCPUs are busy at once, is all of them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

import msgspec

from domicile.errors import BadInput
from domicile.performance.assumptions import DEFAULT
from domicile.performance.machine import Machine
from domicile.policies.pool.model import PoolGuest, PoolHost
from domicile.toml_file import explained
from domicile.topology.detect import read_topology
from domicile.topology.machine_file import read_machine_file
from domicile.topology.model import Topology
from domicile.xlcfg.guest import DEFAULT_POOL, read_guest
from domicile.xlcfg.syntax import MAX_CONFIG_BYTES, decode, parse

__all__ = ["read_guests", "read_hosts"]

MOST_LINE_BYTES = 1 << 20
MOST_MIB = 1 << 32
MOST_VCPUS = 65536

Mib = Annotated[int, msgspec.Meta(ge=0, le=MOST_MIB)]
Load = Annotated[float, msgspec.Meta(ge=0, le=MOST_VCPUS)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=240)]


class _HostLine(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    machine: str | dict[str, Any]
    free_mib: list[Mib] | None = None
    load_vcpus: list[Load] | None = None
    domains: list[Load] | None = None


class _GuestLine(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    vcpus: Annotated[int, msgspec.Meta(ge=1, le=MOST_VCPUS)]
    memory_mib: Annotated[int, msgspec.Meta(ge=1, le=MOST_MIB)]
    overhead_mib: Mib = 0
    load_vcpus: Load | None = None


_Record = TypeVar("_Record", _HostLine, _GuestLine)


def read_hosts(path: str) -> list[PoolHost]:
    """The hosts of a file, one or more. Raises `BadInput` with file, line and key."""
    machines: dict[bytes | str, Machine] = {}
    hosts: list[PoolHost] = []
    lines: dict[str, int] = {}
    with _open(path) as file:
        for number, line in _records(file, path, _HostLine):
            _once(line.name, number, lines, path)
            hosts.append(_host(line, _machine(line.machine, machines, path, number), path, number))
    if not hosts:
        raise BadInput(path, "no host in it; a line is a host")
    return hosts


def read_guests(paths: Sequence[str], topology: Topology) -> list[PoolGuest]:
    """The guests of files of JSON lines and of `xl.cfg` files, in their order. Raises `BadInput`.

    `topology` is what an `xl.cfg` is read against; one that asks for a place of its own is refused.
    """
    guests: list[PoolGuest] = []
    where: dict[str, str] = {}
    for path in paths:
        with _open(path) as file:
            found = list(_guests_of(file, path, topology))
        for number, guest in found:
            place = f"line {number}: name" if number else "name"
            if guest.name in where:
                raise BadInput(path, f"{guest.name!r} is the name of a guest in {where[guest.name]} already", place)
            where[guest.name] = f"{path}, line {number}" if number else path
            guests.append(guest)
    if not guests:
        raise BadInput(" ".join(paths), "no guest in it; a line is a guest")
    return guests


def _guests_of(file: IO[bytes], path: str, topology: Topology) -> Iterator[tuple[int, PoolGuest]]:
    head = file.read(MAX_CONFIG_BYTES + 1)
    # an xl.cfg begins with a key or a comment; an empty file has neither guests nor a config
    if head.strip() and not head.lstrip().startswith(b"{"):
        yield 0, _from_config(head, path, topology)
        return
    for number, line in _records(_Ahead(head, file), path, _GuestLine):
        if line.load_vcpus is not None and line.load_vcpus > line.vcpus:
            problem = f"{line.load_vcpus:g} of {line.vcpus} vCPUs cannot be busy"
            raise BadInput(path, problem, f"line {number}: load_vcpus")
        demand = line.vcpus * DEFAULT.vcpu_demand if line.load_vcpus is None else line.load_vcpus
        yield number, PoolGuest(line.name, demand, line.memory_mib + line.overhead_mib)


def _from_config(data: bytes, path: str, topology: Topology) -> PoolGuest:
    request = read_guest(parse(decode(data), path), topology)
    own = {
        "cpus": request.hard_affinity,
        "cpus_soft": request.soft_affinity,
        "vnuma": request.vnodes,
        "pci": request.devices,
        "pool": request.cpupool != DEFAULT_POOL,
    }
    for key, given in own.items():
        if given:
            raise BadInput(path, "a guest of a pool cannot ask for a place on one host; place it there by itself", key)
    return PoolGuest(request.name, request.vcpus * DEFAULT.vcpu_demand, request.need_mib)


class _Ahead:
    """A file of which the beginning was read already."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head = head
        self._at = 0
        self._file = file

    def readline(self, most: int) -> bytes:
        """The next line, or as much of it as was asked for."""
        if self._at >= len(self._head):
            return self._file.readline(most)
        end = self._head.find(b"\n", self._at)
        stop = min(self._at + most, len(self._head) if end < 0 else end + 1)
        piece, self._at = self._head[self._at : stop], stop
        if end < 0 and len(piece) < most:
            piece += self._file.readline(most - len(piece))
        return piece


def _records(file: IO[bytes] | _Ahead, path: str, kind: type[_Record]) -> Iterator[tuple[int, _Record]]:
    """The records of a file of JSON lines, with their line's number; empty lines are passed over."""
    decoder = msgspec.json.Decoder(kind)
    number = 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        if not line.strip():
            continue
        if len(line) > MOST_LINE_BYTES:
            raise BadInput(path, "a line of more than 1 MiB is none of a pool's", f"line {number}")
        try:
            yield number, decoder.decode(line)
        except msgspec.ValidationError as error:
            fault = explained(str(error), path, kind)
            place = f"line {number}: {fault.place}" if fault.place else f"line {number}"
            raise BadInput(path, fault.problem, place) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadInput(path, f"not JSON: {error}", f"line {number}") from error


def _once(name: str, number: int, lines: dict[str, int], path: str) -> None:
    if name in lines:
        raise BadInput(path, f"{name!r} is the name of the host in line {lines[name]} already", f"line {number}: name")
    lines[name] = number


def _machine(machine: str | dict[str, Any], known: dict[bytes | str, Machine], path: str, number: int) -> Machine:
    key = machine if isinstance(machine, str) else msgspec.json.encode(machine, order="sorted")
    if key not in known:
        try:
            if isinstance(key, bytes):
                known[key] = Machine.of(read_machine_file(key, "machine").topology)
            else:
                known[key] = Machine.of(read_topology(_beside(path, key)))
        except BadInput as error:
            raise BadInput(path, str(error), f"line {number}: machine") from error
        if not known[key].pcpus.any():
            raise BadInput(path, "a machine without CPUs is no host", f"line {number}: machine")
    return known[key]


def _beside(path: str, machine: str) -> str:
    """A machine's file is looked for beside the file that names it, then where we are; `-` is for guests only."""
    other = Path(path).parent / machine
    if machine == "-":
        raise BadInput(machine, "standard input is no machine; give a preset or a file")
    return str(other) if other.exists() else machine


def _host(line: _HostLine, machine: Machine, path: str, number: int) -> PoolHost:
    nodes = machine.topology.nodes
    for key in ("free_mib", "load_vcpus", "domains"):
        figures = getattr(line, key)
        if figures is not None and len(figures) != len(nodes):
            problem = f"{len(figures)} figures for the {len(nodes)} nodes of its machine; one for each"
            raise BadInput(path, problem, f"line {number}: {key}")
    free = tuple(line.free_mib or (node.memory_mib if node.free_mib is None else node.free_mib for node in nodes))
    load = tuple(line.load_vcpus or (0.0,) * len(nodes))
    domains = tuple(line.domains or (float(math.ceil(vcpus)) for vcpus in load))
    for node, mib, vcpus, pcpus in zip(nodes, free, load, machine.pcpus[0], strict=True):
        if mib > node.memory_mib:
            problem = f"{mib} MiB free on node {node.id}, which has {node.memory_mib} MiB"
            raise BadInput(path, problem, f"line {number}: free_mib")
        if vcpus and not pcpus:
            raise BadInput(path, f"vCPUs on node {node.id}, which has no CPUs", f"line {number}: load_vcpus")
    return PoolHost(line.name, machine, free, load, domains)


def _open(path: str) -> IO[bytes]:
    if path == "-":
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        raise BadInput(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
