"""The CPUs of hwloc's tree: its PU objects, and which of them are below which object."""

from __future__ import annotations

from dataclasses import dataclass, field

from domicile.topology.bitmaps import ids_of, mask_of
from domicile.topology.check import MAX_CPU_ID
from domicile.topology.hwloc_document import Document, Object
from domicile.topology.ids import format_ids

__all__ = ["Cpus", "read_cpus"]

PU_TYPES = ("PU", "Proc")
SOCKET_TYPES = ("Package", "Socket")


@dataclass(frozen=True, slots=True)
class FoundCpu:
    """A PU: `core` is the object of its core and `core_id` that object's id, None where there is none."""

    id: int
    pu: Object
    core: Object | None
    core_id: int | None
    socket: int | None


@dataclass(frozen=True, slots=True)
class Cpus:
    """The online CPUs as a set and one by one, the ids of the others, and what was odd."""

    online: int
    found: tuple[FoundCpu, ...]
    offline: tuple[int, ...]
    notes: tuple[str, ...]
    _ids: tuple[int, ...]
    _spans: dict[int, tuple[int, int]]
    _sets: dict[tuple[int, int], int] = field(default_factory=dict)

    def below(self, one: Object) -> int:
        """The online CPUs below an object, as a set."""
        span = self._spans[id(one)]
        if span not in self._sets:
            self._sets[span] = mask_of(self._ids[slice(*span)]) & self.online
        return self._sets[span]


def read_cpus(document: Document) -> Cpus:
    """The CPUs of the document. A PU that is there only because the recorder asked for offline ones is not online."""
    ids: list[int] = []
    pus: dict[int, Object] = {}
    spans: dict[int, tuple[int, int]] = {}
    ahead: list[tuple[Object, int]] = [(document.root, -1)]
    while ahead:
        one, first = ahead.pop()
        if first >= 0:
            spans[id(one)] = (first, len(ids))
            continue
        ahead.append((one, len(ids)))
        if one.type in PU_TYPES:
            cpu = _cpu_id(document, one)
            if cpu in pus:
                raise document.bad(one, "is there twice")
            pus[cpu] = one
            ids.append(cpu)
        ahead.extend((child, -1) for child in reversed(one.children))
    listed = mask_of(pus)
    _require_consistent(document, pus, listed)
    online = listed & _online(document)
    offline, notes = _offline(document, listed, online)
    return Cpus(
        online,
        tuple(_found(document, cpu, pu) for cpu, pu in sorted(pus.items()) if online >> cpu & 1),
        offline,
        notes,
        tuple(ids),
        spans,
    )


def _cpu_id(document: Document, pu: Object) -> int:
    cpu = document.number(pu, "os_index")
    if cpu is None or not 0 <= cpu <= MAX_CPU_ID:
        raise document.bad(pu, f"needs an os_index from 0 to {MAX_CPU_ID}")
    return cpu


def _require_consistent(document: Document, pus: dict[int, Object], listed: int) -> None:
    """Every PU's set is itself and, since version 2, the root's set is the PUs: else the file has been changed."""
    for cpu, pu in pus.items():
        told = document.bitmap(pu, "cpuset")
        if told is not None and told != 1 << cpu:
            raise document.bad(pu, "its cpuset is not its own index")
    told = document.bitmap(document.root, "cpuset") if document.major > 1 else None
    if told is not None and told != listed:
        raise document.bad(document.root, "its cpuset is not that of the PU objects in it")


def _online(document: Document) -> int:
    """The set that is online: version 1 has a word for it, later ones list no others."""
    told = document.bitmap(document.root, "online_cpuset") if document.major == 1 else None
    return -1 if told is None else told


def _offline(document: Document, listed: int, online: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The CPUs that the machine has beside the online ones, and what is to be said of them and of the allowed ones."""
    notes = []
    complete = document.bitmap(document.root, "complete_cpuset")
    rest = (complete if complete is not None and complete >= 0 else listed) & ~online
    if document.major == 1:
        unseen = rest & (document.bitmap(document.root, "online_cpuset") or 0)
        rest &= ~unseen
        if unseen:
            notes.append(
                f"CPUs {format_ids(ids_of(unseen))} are online, but nothing more is told of them (who recorded this "
                f"may not have been allowed to use them): left out"
            )
    elif rest:
        notes.append(f"CPUs {format_ids(ids_of(rest))} are offline, or who recorded this was not allowed to use them")
    allowed = document.bitmap(document.root, "allowed_cpuset")
    if allowed is not None and online & ~allowed:
        notes.append(f"who recorded this was not allowed to use CPUs {format_ids(ids_of(online & ~allowed))}: kept")
    return ids_of(rest), tuple(notes)


def _found(document: Document, cpu: int, pu: Object) -> FoundCpu:
    core = next((one for one in pu.ancestors() if one.type == "Core"), None)
    package = next((one for one in pu.ancestors() if one.type in SOCKET_TYPES), None)
    return FoundCpu(
        cpu,
        pu,
        core,
        None if core is None else document.number(core, "os_index"),
        None if package is None else document.number(package, "os_index"),
    )
