"""A scenario file: which guests `lab measure` starts on which machine, how they are placed, and for how long it looks.

    title = "one busy guest, left to Xen"
    machine = "4node"                 # a preset of the lab or a machine file
    warm_up_s = 60                    # from the last guest being busy
    window_s = 20
    windows = 1                       # one after the other
    managed = false                   # true: `domicile run` manages the host from when the guests work

    [[guest]]
    name = "busy"
    type = "pvh"                      # pv, pvh or hvm
    vcpus = 2
    memory_mib = 256
    busy = 2                          # vCPUs that compute; left out: all
    touch_mib = 128                   # memory that they keep touching; left out: half, or what is free
    place = "xen"                     # xen: xl create as it is; domicile: domicile create; pinned: hard affinity;
                                      #   soft: soft affinity alone
    node = 1                          # pinned, soft: the node that its vCPUs are bound to,
    memory_node = 2                   #   and where its memory is; left out: the same
    config = { cap = 50 }             # further xl.cfg keys

Guests are started idle in the order of the file, each when the one before is ready; then each is told its load.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import msgspec

from domicile.errors import BadInput
from domicile.lab.guests.config import LEAST_MEMORY_MIB, ConfigValue, Load, guest_config, touchable_mib
from domicile.state.model import DomainType
from domicile.toml_file import TomlKind, decode_toml

__all__ = ["Place", "Scenario", "ScenarioGuest", "load_scenario", "read_scenario", "scenario_names"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}")
KEY = re.compile(r"[a-z][a-z0-9_]*")
MAX_GUESTS = 64
MAX_SECONDS = 24 * 3600
KIND = TomlKind("scenario", "domicile.lab.measure", "scenarios")
SET_HERE = frozenset({"name", "type", "vcpus", "maxvcpus", "memory", "maxmem", "kernel", "ramdisk", "extra"})
"""Keys that a guest's own entries decide."""


class Place(StrEnum):
    """Who decides where a guest goes."""

    XEN = "xen"
    """`xl create`, with whatever `config` says: libxl and Xen's scheduler."""
    DOMICILE = "domicile"
    """`domicile create`."""
    PINNED = "pinned"
    """The scenario: hard affinity to a node."""
    SOFT = "soft"
    """The scenario: soft affinity to a node, as an administrator might have set it."""


BOUND = (Place.PINNED, Place.SOFT)
"""Whoever is placed so has a node."""


class ScenarioGuest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A guest; see the module."""

    name: str
    type: DomainType = DomainType.PVH
    vcpus: int = 2
    memory_mib: int = 256
    busy: int | None = None
    touch_mib: int | None = None
    place: Place = Place.XEN
    node: int | None = None
    memory_node: int | None = None
    config: dict[str, Any] = {}

    @property
    def load(self) -> Load:
        """What it is told to do."""
        busy = self.vcpus if self.busy is None else self.busy
        touch = min(self.memory_mib // 2, touchable_mib(self.memory_mib)) if self.touch_mib is None else self.touch_mib
        return Load(busy, touch if busy else 0)

    def xl_config(self) -> str:
        """Its `xl.cfg`, with nothing to do yet.

        A guest that is bound to a node is started where its memory is to be; its vCPUs are moved by `moves_to`.
        """
        keys: dict[str, ConfigValue] = {}
        if self.place in BOUND:
            memory_node = self.node if self.memory_node is None else self.memory_node
            # libxl takes memory from where soft affinity is; hard affinity alone does not place it (since 4.12). And
            # Xen takes it from where both are: one that has them on different nodes has its memory with the hard one
            keys = {"cpus_soft": f"nodes:{memory_node}"}
            if self.place is Place.PINNED:
                keys["cpus"] = f"nodes:{memory_node}"
        keys.update(self.config)
        return guest_config(self.name, self.type, self.vcpus, self.memory_mib, keys=keys)

    @property
    def moves_to(self) -> int | None:
        """The node that its vCPUs are bound to once its memory is there; None if they stay."""
        return None if self.memory_node in (None, self.node) else self.node


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"guests": "guest"}):
    """A scenario; see the module."""

    guests: tuple[ScenarioGuest, ...]
    title: str = ""
    machine: str = "4node"
    warm_up_s: float = 60
    window_s: float = 20
    windows: int = 1
    managed: bool = False


def scenario_names() -> list[str]:
    """The scenarios that come with domicile."""
    return KIND.names()


def load_scenario(named: str) -> Scenario:
    """The scenario of a preset's name or of a file; a machine file that it names is looked for beside it.

    Raises `BadInput` if there is no such or it cannot be meant.
    """
    scenario = read_scenario(KIND.read(named), named)
    return msgspec.structs.replace(scenario, machine=KIND.beside(named, scenario.machine))


def read_scenario(text: bytes, source: str) -> Scenario:
    """Read and check a scenario. `source` is its name for messages. Raises `BadInput` with the key at fault."""
    scenario = decode_toml(text, source, Scenario)
    if not 1 <= len(scenario.guests) <= MAX_GUESTS:
        raise BadInput(source, f"{len(scenario.guests)} guests; 1 to {MAX_GUESTS} can be", "guest")
    for key, seconds, least in (("warm_up_s", scenario.warm_up_s, 0), ("window_s", scenario.window_s, 1)):
        if not least <= seconds <= MAX_SECONDS:
            raise BadInput(source, f"{seconds}; {least} to {MAX_SECONDS} seconds can be", key)
    if not 1 <= scenario.windows <= 1000:
        raise BadInput(source, f"{scenario.windows}; 1 to 1000 can be", "windows")
    if not scenario.title.isprintable() or not scenario.machine.isprintable() or not scenario.machine:
        raise BadInput(source, "a title and a machine's name are printable text", "title")
    seen: set[str] = set()
    for index, guest in enumerate(scenario.guests):
        place = f"guest[{index}]"
        _check_guest(guest, source, place)
        if guest.name in seen:
            raise BadInput(source, f"{guest.name!r} is there twice", f"{place}.name")
        seen.add(guest.name)
    return scenario


def _check_guest(guest: ScenarioGuest, source: str, place: str) -> None:
    """What can be said of a guest without knowing the machine."""
    if not NAME.fullmatch(guest.name) or guest.name in ("Domain-0", "Xen"):
        problem = f"{guest.name!r}; up to 31 letters, digits, '_', '.' and '-', and no name that Xen uses"
        raise BadInput(source, problem, f"{place}.name")
    if not 1 <= guest.vcpus <= 128:
        raise BadInput(source, f"{guest.vcpus}; 1 to 128 vCPUs can be", f"{place}.vcpus")
    least = LEAST_MEMORY_MIB[guest.type]
    if not least <= guest.memory_mib <= 1 << 20:
        problem = f"{guest.memory_mib}; a tiny {guest.type} guest needs {least} MiB"
        raise BadInput(source, problem, f"{place}.memory_mib")
    if not 0 <= (guest.vcpus if guest.busy is None else guest.busy) <= guest.vcpus:
        raise BadInput(source, f"{guest.busy}; it has {guest.vcpus} vCPUs", f"{place}.busy")
    most = touchable_mib(guest.memory_mib)
    if guest.touch_mib is not None and not 0 <= guest.touch_mib <= most:
        raise BadInput(
            source,
            f"{guest.touch_mib}; up to {most} MiB of its memory can be touched, its kernel has the rest",
            f"{place}.touch_mib",
        )
    _check_place(guest, source, place)
    for key in guest.config:
        if not KEY.fullmatch(key) or key in SET_HERE:
            raise BadInput(source, f"{key!r} is not for here", f"{place}.config")
    try:
        guest.xl_config()
    except BadInput as error:
        raise BadInput(source, error.problem, f"{place}.config.{error.place}") from error


def _check_place(guest: ScenarioGuest, source: str, place: str) -> None:
    bound = guest.place in BOUND
    words = " or ".join(f'"{word}"' for word in BOUND)
    if bound != (guest.node is not None):
        problem = "give the node it is bound to" if bound else f"only a guest with place = {words} has a node"
        raise BadInput(source, problem, f"{place}.node")
    if guest.memory_node is not None and not bound:
        raise BadInput(source, f"only a guest with place = {words} has one", f"{place}.memory_node")
    for key, node in (("node", guest.node), ("memory_node", guest.memory_node)):
        if node is not None and not 0 <= node < 64:
            raise BadInput(source, f"{node}; no node can have that number", f"{place}.{key}")
