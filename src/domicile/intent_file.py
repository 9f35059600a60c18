"""The administrator's intent that `xl.cfg` has no word for: `domicile.toml`.

    [devices]
    policy = "preferred"        # or "required", "ignored": how much a passed-through device's node counts

    [groups.shop]
    kind = "near"               # or "together", "apart"
    domains = ["web1", "web2", "db"]
    weight = 2.0                # 1.0 if left out

    [domains.db]                # what no host tells of a domain; each can be left out
    memory_bound = 0.7          # share of its time that it waits for memory
    traffic_gbs = 3.0           # memory traffic of one of its vCPUs while it is busy
    busy_vcpus = 1.5            # vCPUs that want to run at once, for as long as nobody measured
    may_move = true             # whether its memory may be moved to another node
    pause_s = 0.0               # the longest pause that a move may cost it
    min_mib = 2048              # ballooned down to no less; left out, it is not ballooned down
    sharing = "same-node"       # for this domain instead of the host's mode
    tiering = "off"

    [sharing]                   # of pages with equal content
    mode = "off"                # or "same-node", "any-node"

    [tiering]                   # of pages that domains do not use
    mode = "off"                # or "other-nodes", "far-memory"
    far_nodes = [4]             # left out: the nodes that have memory and no CPUs

    [vnuma]
    default = "auto"            # virtual nodes for guests wider than a node; or "off", or a number for all
    domains = { db = 4, small = "off" }

    [manager]                   # what `balance` and `run` may do; these are the values that hold if left out
    allow = ["*"]               # domains that may be touched: names, or patterns of them
    deny = []                   # those that must not be
    read_only = false           # decide and tell, change nothing
    interval_s = 5.0            # from one round to the next
    memory_map_every_s = 10.0   # debug key `u` at most once in this time
    start = 0.05                # gain in slowdown, over all domains, from which on something is changed
    stop = 0.02                 # what was begun goes on until less than this is to be gained
    horizon_s = 600.0           # within this time a move has to earn what it costs
    hold_off_s = 60.0           # a domain that was moved is left where it is for so long
    # moves_per_minute = 2.0    # left out, as many as there are nodes with CPUs, two at least
    rate_mib_s = 954.0          # how fast one move may copy memory (1 GB/s: one process gets no more done)

It is looked for where `--config` says, else at /etc/domicile/domicile.toml; without either there is no intent. A
domain's name is one that `xl` accepts; the domains of a group need not be there yet.
"""

from __future__ import annotations

import difflib
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from domicile.errors import BadInput
from domicile.state.mandate import DomainMandate, Mandate
from domicile.state.request import (
    Character,
    DevicePolicy,
    Group,
    GroupKind,
    Intent,
    SharingMode,
    TieringMode,
    VnumaMode,
)
from domicile.toml_file import unit_of

__all__ = ["DEFAULT_PATH", "MAX_INTENT_BYTES", "MOST_VNODES", "load_intent", "read_intent"]

DEFAULT_PATH = Path("/etc/domicile/domicile.toml")
MAX_INTENT_BYTES = 1 << 18
DAY_S = 86400.0
MOST_VNODES = 32
"""Xen's limit (`policies.vnuma.design`, which needs NumPy, and this does not)."""

USUAL = Mandate()
"""What holds for the manager where nothing is said."""

_Name = Annotated[str, Meta(min_length=1, max_length=240)]
_Table = TypeVar("_Table", bound=msgspec.Struct)


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    """A table of `groups`."""

    kind: GroupKind
    domains: Annotated[list[_Name], Meta(min_length=2)]
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0


class _Domain(msgspec.Struct, forbid_unknown_fields=True):
    """A table of `domains`."""

    memory_bound: Annotated[float, Meta(ge=0, le=1)] | None = None
    traffic_gbs: Annotated[float, Meta(ge=0, le=1000)] | None = None
    busy_vcpus: Annotated[float, Meta(ge=0, le=1024)] | None = None
    may_move: bool = True
    pause_s: Annotated[float, Meta(ge=0, le=DAY_S)] = 0.0
    min_mib: Annotated[int, Meta(ge=1, le=1 << 32)] | None = None
    sharing: SharingMode | None = None
    tiering: TieringMode | None = None


class _Devices(msgspec.Struct, forbid_unknown_fields=True):
    """The table `devices`."""

    policy: DevicePolicy = DevicePolicy.PREFERRED


class _Sharing(msgspec.Struct, forbid_unknown_fields=True):
    """The table `sharing`."""

    mode: SharingMode = SharingMode.OFF


class _Tiering(msgspec.Struct, forbid_unknown_fields=True):
    """The table `tiering`."""

    mode: TieringMode = TieringMode.OFF
    far_nodes: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1)] | None = None


_Wish = Annotated[int, Meta(ge=1, le=MOST_VNODES)] | VnumaMode


class _Vnuma(msgspec.Struct, forbid_unknown_fields=True):
    """The table `vnuma`."""

    default: _Wish = VnumaMode.AUTO
    domains: dict[_Name, _Wish] = {}


_Time = Annotated[float, Meta(ge=0, le=DAY_S)]
_Gain = Annotated[float, Meta(ge=0, le=1000)]


class _Manager(msgspec.Struct, forbid_unknown_fields=True):
    """The table `manager`: fields and values as in `Mandate`."""

    allow: list[_Name] = msgspec.field(default_factory=lambda: list(USUAL.allow))
    deny: list[_Name] = []
    read_only: bool = USUAL.read_only
    interval_s: Annotated[float, Meta(ge=0.5, le=DAY_S)] = USUAL.interval_s
    memory_map_every_s: _Time = USUAL.memory_map_every_s
    start: _Gain = USUAL.start
    stop: _Gain = USUAL.stop
    horizon_s: _Time = USUAL.horizon_s
    hold_off_s: _Time = USUAL.hold_off_s
    moves_per_minute: Annotated[float, Meta(ge=0, le=6000)] | None = USUAL.moves_per_minute
    rate_mib_s: Annotated[float, Meta(ge=1, le=1 << 20)] = USUAL.rate_mib_s


def load_intent(path: str | Path | None, default: Path = DEFAULT_PATH) -> Intent:
    """The intent in the file that `--config` names, else in the default file, else none.

    Raises `BadInput` for a file that was named and cannot be read, and for one that makes no sense.
    """
    chosen = default if path is None else Path(path)
    try:
        with chosen.open("rb") as file:
            data = file.read(MAX_INTENT_BYTES + 1)
    except (OSError, ValueError) as error:
        if path is None and isinstance(error, FileNotFoundError):
            return Intent()
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise BadInput(str(chosen), f"cannot be read: {reason}") from error
    return read_intent(data, str(chosen))


def read_intent(data: bytes, source: str) -> Intent:
    """The intent that the bytes of a `domicile.toml` express; `source` is what errors call it.

    Raises `BadInput` for what is no TOML, for unknown keys (with the nearest that there is) and for groups that
    contradict each other.
    """
    if len(data) > MAX_INTENT_BYTES:
        raise BadInput(source, "more than 256 KiB; this is no domicile.toml")
    try:
        tables = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(source, "not UTF-8", f"line {line}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(source, f"no TOML: {_one_line(error)}") from error
    _require_known(source, "", tables, ("devices", "domains", "groups", "manager", "sharing", "tiering", "vnuma"))
    groups = _named(source, "groups", tables)
    domains = {
        name: _converted(source, f"domains.{_key(name)}", table, _Domain)
        for name, table in _named(source, "domains", tables).items()
    }
    vnuma = _converted(source, "vnuma", tables.get("vnuma", {}), _Vnuma)
    tiering = _converted(source, "tiering", tables.get("tiering", {}), _Tiering)
    intent = Intent(
        groups=tuple(_group(source, name, table) for name, table in groups.items()),
        devices=_converted(source, "devices", tables.get("devices", {}), _Devices).policy,
        domains=tuple(
            Character(name, each.memory_bound, each.traffic_gbs, each.busy_vcpus) for name, each in domains.items()
        ),
        vnuma=vnuma.default,
        vnuma_by_domain=tuple(sorted(vnuma.domains.items())),
        sharing=_converted(source, "sharing", tables.get("sharing", {}), _Sharing).mode,
        sharing_by_domain=tuple((name, each.sharing) for name, each in domains.items() if each.sharing is not None),
        tiering=tiering.mode,
        tiering_by_domain=tuple((name, each.tiering) for name, each in domains.items() if each.tiering is not None),
        far_nodes=tiering.far_nodes,
        mandate=_mandate(source, tables, domains),
    )
    _require_no_contradiction(source, intent.groups)
    return intent


def _group(source: str, name: str, table: object) -> Group:
    place = f"groups.{_key(name)}"
    group = _converted(source, place, table, _Group)
    twice = [domain for domain, count in Counter(group.domains).items() if count > 1]
    if twice:
        raise BadInput(source, f"{twice[0]!a} is there twice", f"{place}.domains")
    return Group(name, group.kind, tuple(group.domains), group.weight)


def _named(source: str, key: str, tables: dict[str, Any]) -> dict[str, Any]:
    """Tables with names: [key.NAME]."""
    found = tables.get(key, {})
    if not isinstance(found, dict):
        raise BadInput(source, f"has to be tables: [{key}.NAME]", key)
    return found


def _mandate(source: str, tables: dict[str, Any], domains: Mapping[str, _Domain]) -> Mandate:
    """What the manager may do: its own table, and what is said of it in those of domains."""
    said = _converted(source, "manager", tables.get("manager", {}), _Manager)
    if said.stop > said.start:
        problem = f"{said.stop:g} is more than start, {said.start:g}: what is begun would end at once"
        raise BadInput(source, problem, "manager.stop")
    figures = {name: getattr(said, name) for name in said.__struct_fields__}
    limits = [DomainMandate(name, each.may_move, each.pause_s, each.min_mib) for name, each in domains.items()]
    return Mandate(
        **figures | {"allow": tuple(said.allow), "deny": tuple(said.deny)},
        domains=tuple(limit for limit in limits if limit != DomainMandate(limit.domain)),
    )


def _converted(source: str, place: str, table: object, kind: type[_Table]) -> _Table:
    """A table of this kind."""
    if isinstance(table, dict):
        _require_known(source, place, table, kind.__struct_fields__)
    try:
        return msgspec.convert(table, type=kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        at = place + where.rstrip("`")
        unit = unit_of(at)
        hint = f" (a number of{unit})" if unit else _choices(place, where)
        raise BadInput(source, problem + hint, at) from error


def _choices(place: str, where: str) -> str:
    """What can be given at a place in a table where only some words can."""
    choices: dict[str, Collection[str]] = {
        ".kind": list(GroupKind),
        ".policy": list(DevicePolicy),
        ".sharing": list(SharingMode),
        ".tiering": list(TieringMode),
        ".mode": list(TieringMode if place == "tiering" else SharingMode),
    }
    words = choices.get(where.rstrip("`"))
    if where.startswith((".default", ".domains")):
        words = ["auto", "off", f"a number from 1 to {MOST_VNODES}"]
    return f" (give one of {', '.join(words)})" if words else ""


def _require_known(source: str, place: str, table: dict[str, Any], known: Collection[str]) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise BadInput(source, f"unknown key {_key(key)}; {hint}", place)


def _require_no_contradiction(source: str, groups: Collection[Group]) -> None:
    """No two domains are wanted together and apart."""
    apart: dict[str, list[Group]] = {}
    for group in groups:
        for domain in group.domains if group.kind is GroupKind.APART else ():
            apart.setdefault(domain, []).append(group)
    for group in groups:
        if group.kind is not GroupKind.TOGETHER:
            continue
        seen: dict[str, str] = {}
        for domain in group.domains:
            for other in apart.get(domain, ()):
                if other.name in seen:
                    problem = f"{seen[other.name]!a} and {domain!a} are wanted together, and apart by groups."
                    raise BadInput(source, problem + _key(other.name), f"groups.{_key(group.name)}")
                seen[other.name] = domain


def _key(name: str) -> str:
    """A key as it is shown in a message."""
    cut = name if len(name) <= 40 else name[:40] + "..."
    return cut if cut.isprintable() else ascii(cut)


def _one_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    return ascii(str(error))[1:-1] if not str(error).isprintable() else str(error)
