"""Xen's command line, as far as it says where Dom0 lives; every other word is kept as it stands.

Sources: xen/common/kernel.c `parse_params` (words are parted by spaces, `no-` takes a boolean back) and `parse_bool`,
xen/arch/x86/dom0_build.c `parse_dom0_mem`, `parse_dom0_max_vcpus` and `parse_dom0_nodes`, xen/lib/parse-size.c
(without a unit a size is in KiB), docs/misc/xen-command-line.pandoc; all of Xen 4.17.7.

Options given twice: `dom0_nodes` adds up, `dom0_mem` keeps the parts that the later one does not name, of
`dom0_max_vcpus` and `dom0_vcpus_pin` the last counts. That is how they are read here; they are written once. A value
that Xen refuses ("dom0_mem=1024MB") leaves Xen's default in force: it is told apart, and not written again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

__all__ = ["CommandLine", "Dom0Options", "MemoryAmount", "MemoryOption", "VcpuRange", "parse_command_line"]

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

    @property
    def fixed(self) -> bool:
        """Whether it is the same whatever there is."""
        return not self.percent and not self.less

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

    @property
    def fixed_mib(self) -> int | None:
        """What Dom0 boots with where that much is free, in MiB; None if it depends on what is free."""
        # an amount of 0 is none
        given = (
            self.amount if self.amount is not None and (self.amount.size_bytes or not self.amount.fixed) else self.most
        )
        if (
            given is None
            or not given.size_bytes
            or any(limit and not limit.fixed for limit in (given, self.least, self.most))
        ):
            return None
        mib = given.of_mib(0)
        if self.least is not None:
            mib = max(mib, self.least.of_mib(0))
        return mib if self.most is None else min(mib, self.most.of_mib(0))

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
    """The command line: the words that are none of ours, in their order, and what is said of Dom0's place.

    `refused` are our options with values that Xen does not take, each with what is wrong with it.
    """

    others: tuple[str, ...] = ()
    dom0: Dom0Options = Dom0Options()
    refused: tuple[str, ...] = ()

    def with_dom0(self, options: Dom0Options) -> CommandLine:
        """The same with Dom0 elsewhere."""
        return replace(self, dom0=options, refused=())

    def __str__(self) -> str:
        return " ".join([*self.others, *self.dom0.words])


def parse_command_line(text: str) -> CommandLine:
    """Read it, as Xen does: whatever it is, it is one."""
    others: list[str] = []
    refused: list[str] = []
    options = Dom0Options()
    # Xen parts words by spaces alone
    for word in filter(None, text.split(" ")):
        try:
            taken = _with_word(options, word)
        except _RefusedError as error:
            refused.append(f"{word}: {error}")
            continue
        if taken is None:
            others.append(word)
        else:
            options = taken
    return CommandLine(tuple(others), options, tuple(refused))


class _RefusedError(Exception):
    """Xen does not take this value."""


def _with_word(options: Dom0Options, word: str) -> Dom0Options | None:
    """The options with this one too, None if it is none of ours."""
    key, equals, value = word.partition("=")
    if key in ("dom0_vcpus_pin", "no-dom0_vcpus_pin"):
        given = _boolean(value) if value else True
        return replace(options, vcpus_pin=given is not key.startswith("no-"))
    if not equals:
        return None
    if key == "dom0_nodes":
        return _with_nodes(options, value)
    if key == "dom0_max_vcpus":
        return replace(options, max_vcpus=_vcpus(value))
    if key == "dom0_mem":
        return replace(options, memory=_memory(options.memory or MemoryOption(), value))
    return None


def _with_nodes(options: Dom0Options, value: str) -> Dom0Options:
    domains, relaxed = list(options.proximity_domains), options.relaxed
    for part in value.split(","):
        if part in ("relaxed", "strict"):
            relaxed = part == "relaxed"
        elif re.fullmatch(NUMBER, part):
            number = _number(part)
            domains += [] if number in domains else [number]
        else:
            raise _RefusedError(f"{part!r} is neither a proximity domain nor strict or relaxed")
    return replace(options, proximity_domains=tuple(domains), relaxed=relaxed)


def _vcpus(value: str) -> VcpuRange:
    match = RANGE.fullmatch(value)
    if match is None:
        raise _RefusedError("give N, MIN-MAX, MIN- or -MAX")
    least, most = match["only"] or match["least"], match["only"] or match["most"] or match["limit"]
    # 0 counts as 1, and Xen gives Dom0 a vCPU whatever the limit
    floor = max(_number(least), 1) if least else 1
    return VcpuRange(floor, max(_number(most), 1) if most else None)


def _memory(before: MemoryOption, value: str) -> MemoryOption:
    for part in value.split(","):
        if part.startswith("min:"):
            before = replace(before, least=_amount(part[4:]))
        elif part.startswith("max:"):
            before = replace(before, most=_amount(part[4:]))
        else:
            before = replace(before, amount=_amount(part))
    return before


def _amount(text: str) -> MemoryAmount:
    match = AMOUNT.fullmatch(text)
    if match is None:
        raise _RefusedError(f"{text!r} is no amount of memory; give for example 4G, 10% or 1G+5%")
    share = match["alone"] or match["more"]
    percent = _number(share) if share else 0
    if percent >= 100:
        raise _RefusedError(f"{percent} %; give less than 100")
    size = _number(match["size"]) << SHIFTS[match["unit"].lower()] if match["size"] else 0
    # Xen counts whole pages
    return MemoryAmount(size // PAGE_BYTES * PAGE_BYTES, percent, bool(match["less"]))


def _number(text: str) -> int:
    """As `simple_strtoul` with base 0: hexadecimal after 0x, octal after another 0."""
    try:
        return int(text, 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" else 10)
    except ValueError:
        raise _RefusedError(f"{text} begins with 0, so Xen takes it for octal, which it is not") from None


def _boolean(value: str) -> bool:
    if value not in (*TRUE, *FALSE):
        raise _RefusedError(f"{value!r} is neither true nor false")
    return value in TRUE
