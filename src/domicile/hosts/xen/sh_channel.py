"""The channel to `agent.sh` in a Dom0 without Python: lines of shell there, sections of text back.

Everything in a line is quoted here, and nothing that came back is ever sent as a command.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Callable
from importlib import resources
from typing import Any, TypeVar

from domicile.errors import HostFailed, Refused
from domicile.hosts.xen.boot_log import BootLog
from domicile.hosts.xen.channel import QUICK_S, error_for
from domicile.hosts.xen.dom0.agent.configurations import essence
from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.shelf import TOKEN
from domicile.hosts.xen.dom0.agent.xl_list import only_one, parse_rows
from domicile.hosts.xen.dom0.row import Row
from domicile.hosts.xen.process import Conversation

__all__ = ["ShChannel"]

Sections = dict[str, str]
T = TypeVar("T")


class ShChannel:
    """`Channel` by way of a POSIX shell in Dom0."""

    measures = False
    via = "xl alone, no Python in Dom0"

    def __init__(self, conversation: Conversation, limit_s: float) -> None:
        """Send the shell's functions and wait until it is ready. Raises `HostFailed`."""
        self._conversation = conversation
        self._where = conversation.transport.where
        program = resources.files(__package__).joinpath("agent.sh").read_bytes()
        mark = secrets.token_hex(16)
        conversation.send(program + f"\nstart {mark}; echo {mark} done\n".encode("ascii"), limit_s)
        self.lease_s = float(self._checked(self._sections(mark, limit_s))["lease"])

    def snapshot(self, memory_map: str) -> Any:
        """See `Channel`."""
        found = self._call(2 * QUICK_S, "snapshot", memory_map)
        try:
            notes = [text.strip() for name, text in found.items() if name == "note"]
            try:
                listed = json.loads(found["configs"] or "[]")
            except ValueError as error:
                listed = []
                notes.append(f"xl list -l: {error}")
            return {
                **{
                    name: found.get(name, "")
                    for name in ("domains", "vcpus", "cpupools", "schedulers", "claims", "info")
                },
                "taken_at": float(found["taken_at"]),
                "host_id": found["host_id"].strip(),
                "generation": found["generation"].strip(),
                "reservations": [json.loads(line) for line in found["reservations"].split("\n") if line.strip()],
                "holds": [line for line in found["holds"].split("\n") if line.strip()],
                "manager": json.loads(found.get("manager") or '""'),
                "halted": json.loads(found.get("halted") or '""'),
                "pci_devices": found.get("pci_devices", "").split(),
                "pci_classes": dict(line.split() for line in found.get("pci_classes", "").split("\n") if line.strip()),
                "assignable_devices": found.get("assignable_devices", "").split(),
                "configs": {entry["domid"]: essence(entry.get("config") or {}) for entry in listed},
                "memory_map": _memory_map(found),
                "notes": notes,
            }
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise HostFailed(f"{self._where}: its snapshot makes no sense: {error!r}") from error

    def boot_log(self) -> BootLog:
        """See `Channel`."""
        found = self._call(2 * QUICK_S, "boot_log")
        try:
            return BootLog(found.get("boot_log", ""), bytes.fromhex(found.get("srat", "")))
        except ValueError as error:
            raise HostFailed(f"{self._where}: what is left of its boot makes no sense: {error!r}") from error

    def reserve(self, token: str, expected_generation: str, reservation: dict[str, Any]) -> None:
        """See `Channel`."""
        self._call(QUICK_S, "reserve", token, expected_generation, json.dumps(reservation))

    def release(self, token: str) -> None:
        """See `Channel`."""
        if TOKEN.match(token):
            self._call(QUICK_S, "release", token)

    def create(self, name: str, uuid: str, config: str, limit_s: float) -> None:
        """See `Channel`."""
        try:
            self._require_new(self._call(2 * QUICK_S, "begin_create"), name, uuid)
        except (HostFailed, Refused):
            self._call(QUICK_S, "end_create")
            raise
        self._call(limit_s + 2 * QUICK_S, "create", uuid, json.dumps(name), config, str(round(limit_s)))
        if not any(row.uuid == uuid for row in self._rows()):
            self._call(2 * QUICK_S, "give_up", uuid)
            raise HostFailed(f"{self._where}: xl create ended well, but there is no domain of UUID {uuid}")

    def unpause(self, name: str) -> None:
        """See `Channel`."""
        row = self._the(name)
        self._call(QUICK_S, "act", row.uuid, "unpause", str(row.id))

    def destroy(self, name: str, uuid: str) -> None:
        """See `Channel`."""
        found = [row for row in self._named(name) if uuid in ("", row.uuid)]
        if not found:
            return
        row = self._translated(lambda: only_one(found, name))
        if row.id == 0:
            raise Refused(f"{self._where}: Dom0 is not destroyed")
        try:
            self._call(QUICK_S, "act", row.uuid, "destroy", str(row.id))
        except HostFailed:
            if any(left.id == row.id and not left.dying for left in self._rows()):
                raise

    def set_affinity(self, name: str, vcpu: int, hard: str, soft: str) -> None:
        """See `Channel`."""
        self._call(QUICK_S, "set_affinity", str(self._the(name).id), str(vcpu), hard, soft)

    def hold(self, name: str, uuid: str, vcpu: int, before: str, held: str) -> None:
        """See `Channel`."""
        row = self._the(name)
        if row.uuid != uuid:
            raise Refused(f"{self._where}: domain {row.id}, {name}, is another now, of UUID {row.uuid}")
        self._call(2 * QUICK_S, "hold", uuid, str(row.id), str(vcpu), before, held)

    def let_go(self, uuid: str, vcpu: int) -> None:
        """See `Channel`."""
        self._call(2 * QUICK_S, "let_go", uuid, str(vcpu))

    def manage(self, who: str) -> None:
        """See `Channel`."""
        self._call(QUICK_S, "manage", json.dumps(who) if who else "")

    def set_memory(self, name: str, uuid: str, target_mib: int) -> None:
        """See `Channel`."""
        row = self._the(name)
        if row.uuid != uuid:
            raise Refused(f"{self._where}: domain {row.id}, {name}, is another now, of UUID {row.uuid}")
        self._call(QUICK_S, "act", "", "mem-set", str(row.id), f"{target_mib}m")

    def move(self, order: dict[str, Any]) -> None:
        """See `Channel`."""
        del order
        raise Refused(f"{self._where}: moving memory takes Python 3.6 and Xen's bindings for it in Dom0")

    def end_move(self, token: str) -> None:
        """See `Channel`: without Python none ever begins here."""

    def halt(self, why: str | None) -> None:
        """See `Channel`."""
        self._call(2 * QUICK_S, "halt", "" if why is None else json.dumps(why))

    def beat(self) -> None:
        """See `Channel`."""
        self._conversation.beat(b"beat\n")

    def close(self) -> None:
        """See `Channel`."""
        self._conversation.close()

    def _require_new(self, found: Sections, name: str, uuid: str) -> None:
        """Refuse a name or UUID that is taken."""
        for row in self._translated(lambda: parse_rows(found["domains"])):
            if (row.name == name and not row.dying) or row.uuid == uuid:
                raise Refused(f"{self._where}: domain {row.id} is called {row.name} and has UUID {row.uuid}")
        for section, text in found.items():
            kind, _, other = section.partition(" ")
            if kind == "building" and (other == uuid or text == json.dumps(name)):
                raise Refused(f"{self._where}: another process is creating a domain called {name} or of its UUID")

    def _rows(self) -> list[Row]:
        """The domains."""
        found = self._call(QUICK_S, "list")
        return self._translated(lambda: parse_rows(found["domains"]))

    def _named(self, name: str) -> list[Row]:
        """The living domains of this name."""
        return [row for row in self._rows() if row.name == name and not row.dying]

    def _the(self, name: str) -> Row:
        """The one domain of this name."""
        return self._translated(lambda: only_one(self._named(name), name))

    def _translated(self, work: Callable[[], T]) -> T:
        """The agent's own functions, used on this side, with this side's errors."""
        try:
            return work()
        except Problem as problem:
            raise error_for(self._where, problem.kind, problem.message, problem.output) from problem

    def _call(self, limit_s: float, *words: str) -> Sections:
        """One round trip."""
        mark = secrets.token_hex(16)
        line = shlex.join(["request", mark, *words]) + "\n"
        self._conversation.send(line.encode("utf-8", "surrogateescape"), QUICK_S)
        return self._checked(self._sections(mark, limit_s))

    def _checked(self, found: Sections) -> Sections:
        """Raise what the shell reports."""
        for name, text in found.items():
            kind, _, what = name.partition(" ")
            if kind == "problem":
                raise error_for(self._where, what, text, found.get("output", ""))
        return found

    def _sections(self, mark: str, limit_s: float) -> Sections:
        """The answer's sections by name."""
        found: Sections = {}
        name, lines = "", list[str]()
        while (line := self._conversation.receive(limit_s)) != f"{mark} done":
            if line.startswith(f"{mark} begin "):
                name, lines = line.partition(" begin ")[2], []
            elif line == f"{mark} end":
                found[name] = "\n".join(lines)
            else:
                lines.append(line)
        return found


def _memory_map(found: Sections) -> dict[str, Any] | None:
    """The dump on file, with its age."""
    header, _, text = found.get("memory_map", "").partition("\n")
    match = re.fullmatch(r"([\d.]+) ([\d.]+)", header.strip())
    if match is None:
        return None
    return {"age_s": float(found["uptime"]) - float(match[1]), "duration_s": float(match[2]), "text": text}
