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

    [vnuma]
    default = "auto"            # virtual nodes for guests wider than a node; or "off", or a number for all
    domains = { db = 4, small = "off" }

It is looked for where `--config` says, else at /etc/domicile/domicile.toml; without either there is no intent. A
domain's name is one that `xl` accepts; the domains of a group need not be there yet.
"""

from __future__ import annotations

import difflib
import tomllib
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from domicile.errors import BadInput
from domicile.state.request import Character, DevicePolicy, Group, GroupKind, Intent, VnumaMode

__all__ = ["DEFAULT_PATH", "MAX_INTENT_BYTES", "MOST_VNODES", "load_intent", "read_intent"]

DEFAULT_PATH = Path("/etc/domicile/domicile.toml")
MAX_INTENT_BYTES = 1 << 18
MOST_VNODES = 32
"""Xen's limit (`policies.vnuma.design`, which needs NumPy, and this does not)."""

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


class _Devices(msgspec.Struct, forbid_unknown_fields=True):
    """The table `devices`."""

    policy: DevicePolicy = DevicePolicy.PREFERRED


_Wish = Annotated[int, Meta(ge=1, le=MOST_VNODES)] | VnumaMode


class _Vnuma(msgspec.Struct, forbid_unknown_fields=True):
    """The table `vnuma`."""

    default: _Wish = VnumaMode.AUTO
    domains: dict[_Name, _Wish] = {}


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
    _require_known(source, "", tables, ("devices", "domains", "groups", "vnuma"))
    groups, domains = _named(source, "groups", tables), _named(source, "domains", tables)
    vnuma = _converted(source, "vnuma", tables.get("vnuma", {}), _Vnuma)
    intent = Intent(
        groups=tuple(_group(source, name, table) for name, table in groups.items()),
        devices=_converted(source, "devices", tables.get("devices", {}), _Devices).policy,
        domains=tuple(_domain(source, name, table) for name, table in domains.items()),
        vnuma=vnuma.default,
        vnuma_by_domain=tuple(sorted(vnuma.domains.items())),
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


def _domain(source: str, name: str, table: object) -> Character:
    said = _converted(source, f"domains.{_key(name)}", table, _Domain)
    return Character(name, said.memory_bound, said.traffic_gbs, said.busy_vcpus)


def _converted(source: str, place: str, table: object, kind: type[_Table]) -> _Table:
    """A table of this kind."""
    if isinstance(table, dict):
        _require_known(source, place, table, kind.__struct_fields__)
    try:
        return msgspec.convert(table, type=kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        raise BadInput(source, problem + _choices(where), place + where.rstrip("`")) from error


def _choices(where: str) -> str:
    """What can be given at a place where only some words can."""
    choices: dict[str, Collection[str]] = {".kind": list(GroupKind), ".policy": list(DevicePolicy)}
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
