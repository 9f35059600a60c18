"""Which proximity domain (PXM) each of Xen's nodes is, from what Xen printed at boot or else from the SRAT itself.

Xen numbers nodes as it meets them in ACPI's SRAT: first those of x2APIC entries, then of local APIC entries, then of
ranges of memory, each in the table's order, disabled entries left out. It prints what comes out only from the level of
information on (`loglvl=info`; a release build has `warning`), and the console ring forgets.

Sources: xen/arch/x86/srat.c (`setup_node` and its callers) and xen/drivers/acpi/numa.c (`acpi_numa_init`) of Xen
4.17.7, with "SRAT: Node 0 PXM 0 [start, end]" for memory and "SRAT: PXM 0 -> APIC 00 -> Node 0" for CPUs; from 4.18 on
xen/common/numa.c has "NUMA: Node 0 PXM 0 [". The table: ACPI 6.5, 5.2.16.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from domicile.errors import HostFailed

__all__ = ["BootLog", "parse_log", "parse_srat", "proximity_domains"]

MEMORY_LINE = re.compile(r"(?:SRAT|NUMA): Node (\d+) PXM (\d+) \[")
PROCESSOR_LINE = re.compile(r"SRAT: PXM (\d+) -> APIC [0-9a-f]+ -> Node (\d+)\b")

HEADER_BYTES, FIXED_BYTES, REVISION_AT = 36, 12, 8
"""An ACPI table's header, with the revision in it; what an SRAT has between that and its entries."""

LOCAL_APIC, MEMORY, X2APIC = 0, 1, 2
LENGTHS = {LOCAL_APIC: 16, MEMORY: 40, X2APIC: 24}
ENABLED = 1


@dataclass(frozen=True, slots=True)
class BootLog:
    """What a host has kept of its boot: lines of Xen's console that name proximity domains, and the SRAT's bytes."""

    text: str = ""
    srat: bytes = b""


def proximity_domains(log: BootLog, where: str) -> dict[int, int]:
    """Node id to proximity domain, of the nodes told; what Xen said itself comes first. Raises `HostFailed` for a
    table that is damaged."""
    try:
        inferred = parse_srat(log.srat) if log.srat else {}
    except ValueError as error:
        raise HostFailed(f"{where}: its SRAT makes no sense: {error}") from error
    return {**inferred, **parse_log(log.text)}


def parse_log(text: str) -> dict[int, int]:
    """Node id to proximity domain, from Xen's console. A node told twice otherwise is left out: the text is garbled."""
    found: dict[int, set[int]] = {}
    for line in text.split("\n"):
        if match := MEMORY_LINE.search(line):
            found.setdefault(int(match[1]), set()).add(int(match[2]))
        elif match := PROCESSOR_LINE.search(line):
            found.setdefault(int(match[2]), set()).add(int(match[1]))
    return {node: domains.pop() for node, domains in sorted(found.items()) if len(domains) == 1}


def parse_srat(table: bytes) -> dict[int, int]:
    """Node id to proximity domain, as Xen numbers them. Raises ValueError for a table that is cut or none."""
    if table[:4] != b"SRAT" or len(table) < HEADER_BYTES + FIXED_BYTES:
        raise ValueError("it does not begin as one")
    (length,) = struct.unpack_from("<I", table, 4)
    if length != len(table):
        raise ValueError(f"it has {len(table)} bytes, and says {length}")
    wide = table[REVISION_AT] >= 2
    entries = list(_entries(table))
    found: dict[int, None] = {}
    for kind in (X2APIC, LOCAL_APIC, MEMORY):
        for entry in entries:
            if entry[0] == kind:
                found.update(dict.fromkeys(_domain(kind, entry, wide=wide)))
    return dict(enumerate(found))


def _entries(table: bytes) -> Iterator[bytes]:
    at = HEADER_BYTES + FIXED_BYTES
    while at + 2 <= len(table):
        length = table[at + 1]
        if length < 2 or at + length > len(table) or length < LENGTHS.get(table[at], 2):
            raise ValueError(f"the entry at byte {at} has {length} bytes")
        yield table[at : at + length]
        at += length


def _domain(kind: int, entry: bytes, *, wide: bool) -> list[int]:
    """The proximity domain of an entry, none of one that is disabled. Before revision 2 it has 8 bits."""
    if kind == X2APIC:
        domain, flags = *struct.unpack_from("<I", entry, 4), *struct.unpack_from("<I", entry, 12)
    elif kind == MEMORY:
        domain, flags = *struct.unpack_from("<I", entry, 2), *struct.unpack_from("<I", entry, 28)
        domain = domain if wide else domain & 0xFF
    else:
        flags = struct.unpack_from("<I", entry, 4)[0]
        domain = int.from_bytes(entry[2:3] + (entry[9:12] if wide else b""), "little")
    return [domain] if flags & ENABLED else []
