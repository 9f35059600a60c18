"""The text of `xl info -n` taken apart: `key : value` lines and the tables of CPUs, devices and nodes.

Source: the `printf` formats of tools/xl/xl_info.c (Xen 4.2 to 4.22). What the rows mean is for `xl_info`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from domicile.errors import BadInput
from domicile.topology.check import MAX_CPU_ID, MAX_NODE_ID

__all__ = ["CpuRow", "DeviceRow", "NodeRow", "XlOutput", "split_xl_info"]

KEY_VALUE = re.compile(r"([a-z][a-z0-9_]*(?: [a-z]+)?) *:(?: (.*))?")
CPU = re.compile(r" *([0-9]{1,9}): +(-?[0-9]{1,10}) +(-?[0-9]{1,10}) +(-?[0-9]{1,10}) *")
DEVICE = re.compile(r"([0-9a-f]{4}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]) +(-?[0-9]{1,10}) *")
NODE = re.compile(r" *([0-9]{1,9}): +([0-9]{1,13}) +([0-9]{1,13})(?: +([-0-9,]*))? *")
DISTANCE = re.compile(r"-|-?[0-9]{1,10}")
NOISE = re.compile(r"(libxl|xc|xl|xencall): |(libxl|xs|xc|get)_[a-z_]+ (sysctl )?failed")
"""Messages of the tools, in the file when stderr was saved with stdout."""

INVALID = frozenset({-1, 0xFFFFFFFF})
"""libxl's *_INVALID_ENTRY, all ones in 32 bits, as `%d` and as `%u`."""

HEADERS = {
    "cpu_topology": ("cpu:", "core", "socket", "node"),
    "device topology": ("device", "node"),
    "numa_info": ("node:", "memsize", "memfree", "distances"),
}
MOST_CHARACTERS = 8 << 20
"""65,536 CPUs take 3 MiB."""

NO_DEVICES = "No device topology data available"
LAST_KEY = "xend_config_format"


@dataclass(frozen=True, slots=True)
class CpuRow:
    """A row of `cpu_topology`; a field is None where Xen has no valid one."""

    line: int
    id: int
    core: int | None
    socket: int | None
    node: int | None


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A row of `device topology`."""

    line: int
    address: str
    node: int | None


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A row of `numa_info`; a distance is None where Xen has no valid one."""

    line: int
    id: int
    size_mib: int
    free_mib: int
    distances: tuple[int | None, ...]


@dataclass(slots=True)
class XlOutput:
    """What the text holds. `cut_short`: it ends inside a line of the node table, or could (no newline at the end)."""

    source: str
    fields: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    cpus: list[CpuRow] = field(default_factory=list)
    devices: list[DeviceRow] = field(default_factory=list)
    nodes: list[NodeRow] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)
    nodes_end_the_text: bool = False
    cut_short: bool = False

    @property
    def cpus_line(self) -> int:
        """The line that the CPU table begins on."""
        return self.lines["cpu_topology"]

    @property
    def nodes_line(self) -> int:
        """The line that the node table begins on."""
        return self.lines["numa_info"]

    def value(self, key: str) -> str:
        """The value of a line, "" if it is not there."""
        return self.fields.get(key, "")

    def number(self, key: str) -> int | None:
        """The value of a line that holds a whole number, None if the line is not there."""
        if key not in self.fields:
            return None
        value = self.fields[key]
        if not re.fullmatch(r"[0-9]{1,15}", value):
            raise BadInput(self.source, f"{key} is {value[:40]!r}, not a number", f"line {self.lines[key]}")
        return int(value)

    def required_number(self, key: str) -> int:
        """The same for a line that must be there."""
        number = self.number(key)
        if number is None:
            raise BadInput(self.source, f"no {key} line: not the whole output of `xl info -n`")
        return number


def split_xl_info(text: str, source: str) -> XlOutput:
    """Take the text apart.

    Raises `BadInput` for text that is not `xl info -n`, for lines of no known form and for sections that are missing.
    Lines before the first `key : value` and after the last key are not looked at (a login's banner, a shell's prompt).
    """
    if len(text) > MOST_CHARACTERS:
        raise BadInput(source, f"longer than {MOST_CHARACTERS >> 20} MiB: no `xl info -n` is")
    output = XlOutput(source)
    # not splitlines(): a stray control character inside a value is no end of a line
    lines = [line.rstrip("\r") for line in text.split("\n")]
    section = ""
    awaited: tuple[str, ...] | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if NOISE.match(line):
            output.noise.append(f"line {number}: {line[:120]}")
        elif awaited is not None:
            if tuple(line.split()) != awaited:
                raise BadInput(source, f"not the heading of {section}: {line[:60]!r}", f"line {number}")
            awaited = None
        elif key_value := KEY_VALUE.fullmatch(line):
            section = _begin(output, key_value[1], (key_value[2] or "").strip(), number)
            awaited = HEADERS.get(section)
        elif section:
            ROWS[section](output, line, number)
        elif output.fields and LAST_KEY not in output.fields:
            raise BadInput(source, f"no line of `xl info -n`: {line[:60]!r}", f"line {number}")
    _see_the_end(output, section, unfinished=bool(lines[-1]))
    _require_sections(output, awaited)
    return output


def _see_the_end(output: XlOutput, section: str, *, unfinished: bool) -> None:
    """Note where the text ends before its last line, and don't believe a value that is cut."""
    output.nodes_end_the_text = section == "numa_info"
    output.cut_short = output.nodes_end_the_text and unfinished
    if not output.fields or LAST_KEY in output.fields:
        return
    output.noise.append(f"the end is missing, from {list(output.fields)[-1]} on")
    if unfinished and not section:
        output.fields.popitem()


def _begin(output: XlOutput, key: str, value: str, number: int) -> str:
    """Take a `key : value` line; the name of the section that it opens, "" if it opens none."""
    if key in output.lines:
        raise BadInput(output.source, f"{key} is there twice; give one `xl info -n`", f"line {number}")
    output.lines[key] = number
    output.fields[key] = value
    # Xen 4.1 printed `numa_info : none`
    return key if key in HEADERS and not value else ""


def _require_sections(output: XlOutput, awaited: tuple[str, ...] | None) -> None:
    """Both tables are needed; what is missing tells what was saved."""
    if not output.fields:
        raise BadInput(output.source, "not the output of `xl info -n`")
    if "cpu_topology" not in output.lines and "numa_info" not in output.lines and "xen_major" in output.lines:
        raise BadInput(output.source, "`xl info` without its tables; give the output of `xl info -n`")
    for key in ("cpu_topology", "numa_info"):
        if key not in output.lines:
            raise BadInput(output.source, f"no {key} section: cut, or not the output of `xl info -n`")
        if output.fields[key]:
            raise BadInput(output.source, f"{key} is {output.fields[key][:40]!r}", f"line {output.lines[key]}")
    if awaited is not None:
        raise BadInput(output.source, "cut after the heading of numa_info; save `xl info -n` again")


def _cpu_row(output: XlOutput, line: str, number: int) -> None:
    """Take a line of the CPU table."""
    row = CPU.fullmatch(line)
    if row is None:
        raise BadInput(output.source, f"not a row of the CPU table: {line[:60]!r}", f"line {number}")
    cpu = int(row[1])
    if output.cpus and cpu <= output.cpus[-1].id:
        raise BadInput(output.source, f"CPU {cpu} comes after CPU {output.cpus[-1].id}", f"line {number}")
    if cpu > MAX_CPU_ID:
        raise BadInput(output.source, f"no CPU can be {cpu}", f"line {number}")
    core, socket, node = (_valid(row[group]) for group in (2, 3, 4))
    output.cpus.append(CpuRow(number, cpu, core, socket, node))


def _device_row(output: XlOutput, line: str, number: int) -> None:
    """Take a line of the device table."""
    row = DEVICE.fullmatch(line)
    if row is not None:
        output.devices.append(DeviceRow(number, row[1], _valid(row[2])))
    elif line.strip() != NO_DEVICES:
        raise BadInput(output.source, f"not a row of the device table: {line[:60]!r}", f"line {number}")


def _node_row(output: XlOutput, line: str, number: int) -> None:
    """Take a line of the node table."""
    row = NODE.fullmatch(line)
    if row is None:
        raise BadInput(output.source, f"not a row of the node table: {line[:60]!r}", f"line {number}")
    node = int(row[1])
    if output.nodes and node <= output.nodes[-1].id:
        raise BadInput(output.source, f"node {node} comes after node {output.nodes[-1].id}", f"line {number}")
    if node > MAX_NODE_ID:
        raise BadInput(output.source, f"no node can be {node}", f"line {number}")
    texts = row[4].split(",") if row[4] else []
    if not all(DISTANCE.fullmatch(text) for text in texts):
        raise BadInput(output.source, f"no distances: {row[4][:60]!r}", f"line {number}")
    distances = tuple(None if text == "-" else _valid(text) for text in texts)
    output.nodes.append(NodeRow(number, node, int(row[2]), int(row[3]), distances))


ROWS: dict[str, Callable[[XlOutput, str, int], None]] = {
    "cpu_topology": _cpu_row,
    "device topology": _device_row,
    "numa_info": _node_row,
}


def _valid(text: str) -> int | None:
    """The number, None for libxl's invalid entry."""
    number = int(text)
    return None if number in INVALID else number
