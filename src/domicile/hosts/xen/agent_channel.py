"""The channel to the agent (`dom0.agent`) in Dom0: a line of JSON each way."""

from __future__ import annotations

import json
from typing import Any

from domicile.errors import HostFailed
from domicile.hosts.xen.boot_log import BootLog
from domicile.hosts.xen.channel import QUICK_S, error_for
from domicile.hosts.xen.dom0_program import dom0_program
from domicile.hosts.xen.process import Conversation

__all__ = ["AgentChannel"]


class AgentChannel:
    """`Channel` by way of Python in Dom0."""

    def __init__(self, conversation: Conversation, limit_s: float) -> None:
        """Send the agent and wait for it to say that it is ready. Raises `HostFailed`."""
        self._conversation = conversation
        self._where = conversation.transport.where
        program = dom0_program()
        conversation.send(b"%d\n" % len(program) + program, limit_s)
        hello = self._answer(limit_s)
        self.measures = bool(hello.get("xc"))
        self.via = (
            "libxenctrl, and xl for actions" if hello.get("direct") else f"xl ({hello.get('problem') or 'alone'})"
        )
        self.lease_s = float(hello["lease_s"])

    def snapshot(self, memory_map: str) -> Any:
        """See `Channel`."""
        return self._call("snapshot", {"memory_map": memory_map}, 2 * QUICK_S)

    def boot_log(self) -> BootLog:
        """See `Channel`."""
        found = self._call("boot_log", {}, 2 * QUICK_S)
        try:
            return BootLog(str(found["text"]), bytes.fromhex(found["srat"]))
        except (KeyError, TypeError, ValueError) as error:
            raise HostFailed(f"{self._where}: what is left of its boot makes no sense: {error!r}") from error

    def reserve(self, token: str, expected_generation: str, reservation: dict[str, Any]) -> None:
        """See `Channel`."""
        self._call(
            "reserve", {"token": token, "expected_generation": expected_generation, "reservation": reservation}, QUICK_S
        )

    def release(self, token: str) -> None:
        """See `Channel`."""
        self._call("release", {"token": token}, QUICK_S)

    def create(self, name: str, uuid: str, config: str, limit_s: float) -> None:
        """See `Channel`."""
        self._call("create", {"name": name, "uuid": uuid, "config": config, "limit_s": limit_s}, limit_s + 2 * QUICK_S)

    def unpause(self, name: str) -> None:
        """See `Channel`."""
        self._call("unpause", {"name": name}, 2 * QUICK_S)

    def destroy(self, name: str, uuid: str) -> None:
        """See `Channel`."""
        self._call("destroy", {"name": name, "uuid": uuid}, 3 * QUICK_S)

    def set_affinity(self, name: str, vcpu: int, hard: str, soft: str) -> None:
        """See `Channel`."""
        self._call("set_affinity", {"name": name, "vcpu": vcpu, "hard": hard, "soft": soft}, 2 * QUICK_S)

    def hold(self, name: str, uuid: str, vcpu: int, before: str, held: str) -> None:
        """See `Channel`."""
        found = {"name": name, "uuid": uuid, "vcpu": vcpu, "before": before, "held": held}
        self._call("hold", found, 2 * QUICK_S)

    def let_go(self, uuid: str, vcpu: int) -> None:
        """See `Channel`."""
        self._call("let_go", {"uuid": uuid, "vcpu": vcpu}, 2 * QUICK_S)

    def manage(self, who: str) -> None:
        """See `Channel`."""
        self._call("manage", {"who": who or None}, QUICK_S)

    def set_memory(self, name: str, uuid: str, target_mib: int) -> None:
        """See `Channel`."""
        self._call("set_memory", {"name": name, "uuid": uuid, "target_mib": target_mib}, 2 * QUICK_S)

    def move(self, order: dict[str, Any]) -> None:
        """See `Channel`."""
        self._call("move", {"order": order}, 2 * QUICK_S)

    def end_move(self, token: str) -> None:
        """See `Channel`."""
        self._call("end_move", {"token": token}, QUICK_S)

    def halt(self, why: str | None) -> None:
        """See `Channel`."""
        self._call("halt", {"why": why}, 2 * QUICK_S)

    def beat(self) -> None:
        """See `Channel`."""
        self._conversation.beat(b"\n")

    def close(self) -> None:
        """See `Channel`."""
        self._conversation.close()

    def _call(self, operation: str, arguments: dict[str, Any], limit_s: float) -> Any:
        """One round trip."""
        request = json.dumps({"op": operation, "args": arguments}, separators=(",", ":"))
        self._conversation.send(request.encode("ascii") + b"\n", QUICK_S)
        return self._answer(limit_s)

    def _answer(self, limit_s: float) -> Any:
        """The next answer. Raises what it reports."""
        line = self._conversation.receive(limit_s)
        try:
            answer = json.loads(line)
            if "ok" in answer:
                return answer["ok"]
            error = answer["error"]
            raise error_for(self._where, error["kind"], error["message"], error["output"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._conversation.fail(f"the agent's answer makes no sense: {line[:120]!r}") from error
