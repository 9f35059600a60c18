"""`XenHost`: a real Xen behind the `Host` protocol."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self
from uuid import uuid4

import msgspec

from domicile.errors import BadInput
from domicile.hosts.actions import (
    Action,
    CreatePaused,
    Destroy,
    EndMove,
    Halt,
    Hold,
    Lease,
    LetGo,
    Manage,
    Release,
    Reserve,
    SetAffinity,
    SetMemory,
    StartMove,
    Unpause,
)
from domicile.hosts.protocol import Capabilities, no_progress
from domicile.hosts.xen.agent_channel import AgentChannel
from domicile.hosts.xen.assemble import assemble, disagreement, read_tables
from domicile.hosts.xen.boot_log import proximity_domains
from domicile.hosts.xen.channel import Channel, Runtime, greet, start_command
from domicile.hosts.xen.config_identity import config_identity
from domicile.hosts.xen.cpu_list import format_list
from domicile.hosts.xen.process import Conversation
from domicile.hosts.xen.raw import RawSnapshot, decode_raw
from domicile.hosts.xen.transport import Transport
from domicile.state.model import MemoryMapAge, Snapshot

__all__ = ["XenHost", "open_xen"]

CONNECT_S = 180.0
"""For a Dom0 that is slow; one that is not there is told much sooner, by ssh."""
CREATE_LIMIT_S = 600.0
BEATS_PER_LEASE = 6
WAIT_STEP_S = 0.25
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
UNUSABLE_NAME = re.compile(r"[\x00-\x1f\x7f/]|^\s|\s$|^$")


def open_xen(uri: str, transport: Transport, runtime: Runtime | None = None) -> XenHost:
    """Connect. `runtime` chooses what carries requests out; None takes Python where it is. Raises `HostFailed`."""
    conversation = Conversation(transport, start_command(runtime))
    try:
        found, _ = greet(conversation, CONNECT_S)
        channel: Channel
        if found is Runtime.PYTHON:
            channel = AgentChannel(conversation, CONNECT_S)
        else:
            from domicile.hosts.xen.sh_channel import ShChannel  # noqa: PLC0415  (rarely needed)

            channel = ShChannel(conversation, CONNECT_S)
    except BaseException:
        conversation.close()
        raise
    return XenHost(uri, transport.where, channel)


class XenHost:
    """A Dom0 behind a channel. Calls from several threads follow one another."""

    def __init__(self, uri: str, where: str, channel: Channel) -> None:
        self._uri = uri
        self._where = where
        self._channel = channel
        self._everything: frozenset[int] | None = None
        self._one_at_a_time = threading.Lock()
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._keep_beating, name=f"domicile {uri}", daemon=True)
        self._heart.start()

    @property
    def uri(self) -> str:
        """The URI it was opened with."""
        return self._uri

    def capabilities(self) -> Capabilities:
        """What this host can do."""
        return Capabilities(
            via=self._channel.via, memory_map=True, node_affinity=True, pcpu_idle=self._channel.measures
        )

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        """The host now: one round trip, a second one only if a domain came or went in the middle of the first."""
        raw = self.raw_snapshot(memory_map)
        tables = read_tables(raw, self._where)
        if disagreement(tables):
            again = MemoryMapAge.RECENT if memory_map is MemoryMapAge.NOW else memory_map
            raw = self.raw_snapshot(again)
            tables = read_tables(raw, self._where)
        found = assemble(raw, self._where, tables)
        self._everything = tables.every
        return found

    def raw_snapshot(self, memory_map: MemoryMapAge) -> RawSnapshot:
        """What Dom0 sends for a snapshot."""
        with self._one_at_a_time:
            return decode_raw(self._channel.snapshot(memory_map.value), self._where)

    def proximity_domains(self) -> Mapping[int, int]:
        """From what Xen said at boot, and from the SRAT where Dom0 sees it: one round trip."""
        with self._one_at_a_time:
            return proximity_domains(self._channel.boot_log(), self._where)

    def perform(self, action: Action) -> None:
        """Carry out one action, or raise having changed nothing (`BadInput` for what no host would take)."""
        if isinstance(action, Hold) and self._everything is None:
            self.snapshot()
        with self._one_at_a_time:
            self._carry_out(action)

    def wait(self, seconds: float, progress: Callable[[float], None] = no_progress) -> None:
        """Wait as long as the clock on the wall says."""
        if not seconds >= 0:
            raise ValueError(f"{seconds} s cannot pass")
        begun = time.monotonic()
        while (left := begun + seconds - time.monotonic()) > 0:
            time.sleep(min(left, WAIT_STEP_S))
            progress(min(time.monotonic() - begun, seconds))

    def close(self) -> None:
        """End the connection, and with it reservations and paused domains made through it."""
        self._closed.set()
        with self._one_at_a_time:
            self._channel.close()
        self._heart.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _carry_out(self, action: Action) -> None:
        channel = self._channel
        match action:
            case CreatePaused():
                config, uuid = _identified(action)
                channel.create(action.name, uuid, config, CREATE_LIMIT_S)
            case Unpause():
                channel.unpause(action.domain)
            case Destroy():
                channel.destroy(action.domain, action.uuid)
            case SetAffinity():
                hard, soft = (("-" if cpus is None else _cpus(cpus)) for cpus in (action.hard, action.soft))
                if (hard, soft) != ("-", "-"):
                    channel.set_affinity(action.domain, action.vcpu, hard, soft)
            case SetMemory() | StartMove() | EndMove() | Halt():
                self._carry_out_host_wide(action)
            case _:
                self._carry_out_lease(action)

    def _carry_out_host_wide(self, action: SetMemory | StartMove | EndMove | Halt) -> None:
        channel = self._channel
        match action:
            case SetMemory():
                channel.set_memory(action.domain, action.uuid, action.target_mib)
            case StartMove():
                if not TOKEN.fullmatch(action.order.token):
                    raise BadInput("move", f"{action.order.token!r} cannot be its token")
                channel.move(msgspec.to_builtins(action.order, str_keys=True, order="deterministic"))
            case EndMove():
                channel.end_move(action.token)
            case Halt():
                channel.halt(action.why)

    def _carry_out_lease(self, action: Lease) -> None:
        channel = self._channel
        match action:
            case Reserve():
                if not TOKEN.fullmatch(action.reservation.token):
                    raise BadInput("reservation", f"{action.reservation.token!r} cannot be its token")
                builtins = msgspec.to_builtins(action.reservation, str_keys=True)
                channel.reserve(action.reservation.token, action.expected_generation, builtins)
            case Release():
                channel.release(action.token)
            case Hold():
                # the far side compares what a vCPU has as `xl` prints it
                before = "all" if action.before == self._everything else _cpus(action.before)
                channel.hold(action.domain, action.uuid, action.vcpu, before, _cpus(action.cpus))
            case LetGo():
                channel.let_go(action.uuid, action.vcpu)
            case Manage():
                channel.manage(action.who)

    def _keep_beating(self) -> None:
        """Signs of life, so that the far side can tell a client that thinks from a cable that was pulled."""
        lease_s = getattr(self._channel, "lease_s", 30.0)
        while not self._closed.wait(lease_s / BEATS_PER_LEASE):
            self._channel.beat()


def _cpus(cpus: frozenset[int]) -> str:
    """An affinity as `xl vcpu-pin` takes it."""
    if not cpus:
        raise BadInput("affinity", "is empty; give at least one CPU")
    return format_list(cpus)


def _identified(action: CreatePaused) -> tuple[str, str]:
    """The configuration with a UUID, and that: by it we know what is being built, whatever else goes on there."""
    source = f"configuration of {action.name!r}"
    if UNUSABLE_NAME.search(action.name):
        raise BadInput(
            source, "a domain's name must not be empty, begin or end with a space, or hold '/' or control characters"
        )
    if "\0" in action.config:
        raise BadInput(source, "holds a NUL character")
    identity = config_identity(action.config)
    if identity.name != action.name:
        raise BadInput(source, f"it names the domain {identity.name!r}")
    if identity.uuid is not None:
        return action.config, identity.uuid
    uuid = str(uuid4())
    return f'{action.config}\nuuid = "{uuid}"\n', uuid
