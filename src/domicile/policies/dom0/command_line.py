"""Xen's command line, as far as it says where Dom0 lives; every other word is kept as it stands.

Sources: xen/common/kernel.c `parse_params` (words are parted by spaces, `no-` takes a boolean back) and `parse_bool`,
xen/arch/x86/dom0_build.c `parse_dom0_mem`, `parse_dom0_max_vcpus` and `parse_dom0_nodes`, xen/lib/parse-size.c
(without a unit a size is in KiB), docs/misc/xen-command-line.pandoc; all of Xen 4.17.7.

Options given twice: `dom0_nodes` adds up, `dom0_mem` keeps the parts that the later one does not name, of
`dom0_max_vcpus` and `dom0_vcpus_pin` the last counts. That is how they are read here; they are written once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from domicile.errors import BadInput

__all__ = ["CommandLine", "Dom0Options", "MemoryAmount", "MemoryOption", "VcpuRange", "parse_command_line"]

SOURCE = "Xen's command line"
PAGE_BYTES = 4096
PAGES_PER_MIB = 256
UNITS = (("G", 30), ("M", 20), ("K", 10), ("B", 0))
SHIFTS = {"t": 40, "g": 30, "m": 20, "k": 10, "b": 0, "": 10}
NUMBER = r"(?:0[xX][0-9a-fA-F]+|[0-9]+)"
AMOUNT = re.compile(
    rf"(?P<less>-?)(?:(?P<alone>{NUMBER})%|(?P<size>{NUMBER})(?P<unit>[tgmkbTGMKB]?)(?:\+(?P<more>{NUMBER})%)?)"
)
RANGE = re.compile(rf"(?P<only>{NUMBER})|(?P<least>{NUMBER})-(?P<most>{NUMBER})?|-(?P<limit>{NUMBER})")
TRUE, FALSE = ("1", "on", "yes", "true", "enable"), ("0", "off", "no", "false", "disable")


@dataclass(frozen=True, slots=True)
class MemoryAmount:
    """A size in `dom0_mem`: bytes and per cent of what Dom0 could have, or (`less`) that much less than all of it."""

    size_bytes: int
    percent: int = 0
    less: bool = False

    def of_mib(self, available_mib: int) -> int:
        """The amount in MiB where so much is available, rounded down (`get_memsize`)."""
        available = available_mib * PAGES_PER_MIB
        given = self.size_bytes // PAGE_BYTES + self.percent * available // 100
        return (available - given if self.less else given) // PAGES_PER_MIB

    def __str__(self) -> str:
        letter, shift = next(unit for unit in UNITS if self.size_bytes % (1 << unit[1]) == 0)
        size = f"{self.size_bytes >> shift}{letter}" if self.size_bytes or not self.percent else ""
        share = f"{self.percent}%" if self.percent else ""
        return ("-" if self.less else "") + "+".join(part for part in (size, share) if part)


@dataclass(frozen=True, slots=True)
class MemoryOption:
    """`dom0_mem`: what Dom0 boots with, at least, and at most (also later, by ballooning). None: not given."""

    amount: MemoryAmount | None = None
    least: MemoryAmount | None = None
    most: MemoryAmount | None = None

    def __str__(self) -> str:
        parts = ((self.amount, ""), (self.least, "min:"), (self.most, "max:"))
        return ",".join(f"{word}{amount}" for amount, word in parts if amount is not None)


@dataclass(frozen=True, slots=True)
class VcpuRange:
    """`dom0_max_vcpus`: as many as there are pCPUs, but within these bounds (None: no upper one)."""

    least: int = 1
    most: int | None = None

    def of_cpus(self, cpus: int) -> int:
        """How many vCPUs Dom0 gets with so many pCPUs (`dom0_max_vcpus`)."""
        wanted = max(self.least, cpus)
        return wanted if self.most is None else min(wanted, self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"{self.least}-"
        return str(self.least) if self.least == self.most else f"{self.least}-{self.most}"


@dataclass(frozen=True, slots=True)
class Dom0Options:
    """What the command line says of Dom0's place. None, or empty: nothing.

    `proximity_domains` are ACPI's (PXM), not Xen's node ids; `relaxed`: vCPUs prefer these nodes' pCPUs, but may run
    on any.
    """

    proximity_domains: tuple[int, ...] = ()
    relaxed: bool = False
    max_vcpus: VcpuRange | None = None
    memory: MemoryOption | None = None
    vcpus_pin: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """As they are written."""
        found = []
        nodes = [*map(str, self.proximity_domains), *(["relaxed"] if self.relaxed else [])]
        if nodes:
            found.append(f"dom0_nodes={','.join(nodes)}")
        if self.max_vcpus is not None:
            found.append(f"dom0_max_vcpus={self.max_vcpus}")
        if self.memory is not None:
            found.append(f"dom0_mem={self.memory}")
        if self.vcpus_pin:
            found.append("dom0_vcpus_pin")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The command line: the words that are none of ours, in their order, and what is said of Dom0's place."""

    others: tuple[str, ...] = ()
    dom0: Dom0Options = Dom0Options()

    def with_dom0(self, options: Dom0Options) -> CommandLine:
        """The same with Dom0 elsewhere."""
        return replace(self, dom0=options)

    def __str__(self) -> str:
        return " ".join([*self.others, *self.dom0.words])


def parse_command_line(text: str, source: str = SOURCE) -> CommandLine:
    """Read it. Raises `BadInput` for one of our options with a value that Xen would refuse."""
    others: list[str] = []
    options = Dom0Options()
    for word in text.split():
        key, equals, value = word.partition("=")
        if key in ("dom0_vcpus_pin", "no-dom0_vcpus_pin"):
            given = _boolean(value, word, source) if value else True
            options = replace(options, vcpus_pin=given is not key.startswith("no-"))
        elif not equals or key not in ("dom0_nodes", "dom0_max_vcpus", "dom0_mem"):
            others.append(word)
        elif key == "dom0_nodes":
            options = _with_nodes(options, value, word, source)
        elif key == "dom0_max_vcpus":
            options = replace(options, max_vcpus=_vcpus(value, word, source))
        else:
            options = replace(options, memory=_memory(options.memory or MemoryOption(), value, word, source))
    return CommandLine(tuple(others), options)


def _with_nodes(options: Dom0Options, value: str, word: str, source: str) -> Dom0Options:
    domains, relaxed = list(options.proximity_domains), options.relaxed
    for part in value.split(","):
        if part in ("relaxed", "strict"):
            relaxed = part == "relaxed"
        elif re.fullmatch(NUMBER, part):
            number = _number(part, word, source)
            domains += [] if number in domains else [number]
        else:
            raise BadInput(source, f"{part!r} is neither a proximity domain nor strict or relaxed", word)
    return replace(options, proximity_domains=tuple(domains), relaxed=relaxed)


def _vcpus(value: str, word: str, source: str) -> VcpuRange:
    match = RANGE.fullmatch(value)
    if match is None:
        raise BadInput(source, "give N, MIN-MAX, MIN- or -MAX", word)
    least, most = match["only"] or match["least"], match["only"] or match["most"] or match["limit"]
    # 0 counts as 1, and Xen gives Dom0 a vCPU whatever the limit
    floor = max(_number(least, word, source), 1) if least else 1
    return VcpuRange(floor, max(_number(most, word, source), 1) if most else None)


def _memory(before: MemoryOption, value: str, word: str, source: str) -> MemoryOption:
    for part in value.split(","):
        if part.startswith("min:"):
            before = replace(before, least=_amount(part[4:], word, source))
        elif part.startswith("max:"):
            before = replace(before, most=_amount(part[4:], word, source))
        else:
            before = replace(before, amount=_amount(part, word, source))
    return before


def _amount(text: str, word: str, source: str) -> MemoryAmount:
    match = AMOUNT.fullmatch(text)
    if match is None:
        raise BadInput(source, f"{text!r} is no amount of memory; give for example 4G, 10% or 1G+5%", word)
    share = match["alone"] or match["more"]
    percent = _number(share, word, source) if share else 0
    if percent >= 100:
        raise BadInput(source, f"{percent} %; give less than 100", word)
    size = _number(match["size"], word, source) << SHIFTS[match["unit"].lower()] if match["size"] else 0
    # Xen counts whole pages
    return MemoryAmount(size // PAGE_BYTES * PAGE_BYTES, percent, bool(match["less"]))


def _number(text: str, word: str, source: str) -> int:
    """As `simple_strtoul` with base 0: hexadecimal after 0x, octal after another 0."""
    try:
        return int(text, 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" else 10)
    except ValueError:
        raise BadInput(source, f"{text} begins with 0, so Xen takes it for octal, which it is not", word) from None


def _boolean(value: str, word: str, source: str) -> bool:
    if value not in (*TRUE, *FALSE):
        raise BadInput(source, f"{value!r} is neither true nor false", word)
    return value in TRUE
