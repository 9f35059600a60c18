"""`SimulatedHost`: the `Host` protocol over a simulated host's file."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from domicile.errors import HostFailed
from domicile.hosts.actions import Action
from domicile.hosts.protocol import Capabilities, no_progress
from domicile.hosts.simulated.acts import alter, carry_out
from domicile.hosts.simulated.advance import advance
from domicile.hosts.simulated.build import ReadGuest
from domicile.hosts.simulated.placement import ChooseNodes, least_used_nodes
from domicile.hosts.simulated.state import Owner, SimulatedState
from domicile.hosts.simulated.store import Store
from domicile.hosts.simulated.view import snapshot_of
from domicile.local.process import this_process
from domicile.state.model import Domain, MemoryMapAge, Snapshot

__all__ = ["SimulatedHost"]

PIECE_TAKES_S = 1.0
"""How long simulating a piece of time may take, roughly: so much is lost when it is interrupted."""

ATTEMPTS_ASIDE = 3
"""How often a piece is worked out beside others before the host is held for it."""


class SimulatedHost:
    """A connection to a simulated host, of one process. Open it with `open_simulated`.

    Reservations and paused domains made through it end with it: at `close`, or when somebody notices that the
    process has ended.
    """

    def __init__(
        self, uri: str, store: Store, read_guest: ReadGuest, choose_nodes: ChooseNodes = least_used_nodes
    ) -> None:
        self._uri = uri
        self._store = store
        self._read_guest = read_guest
        self._choose_nodes = choose_nodes
        self._owner = Owner(uuid.uuid4().hex, this_process())
        self._open = True

    @property
    def uri(self) -> str:
        """The URI it was opened with."""
        return self._uri

    def capabilities(self) -> Capabilities:
        """All, and time that stands still."""
        return Capabilities(via="simulated", memory_map=True, node_affinity=True, pcpu_idle=True, simulated_time=True)

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        """The host now, always with its memory map: it costs nothing here."""
        del memory_map
        self._require_open()
        return snapshot_of(self._store.read())

    def proximity_domains(self) -> Mapping[int, int]:
        """A simulated machine has no firmware: its nodes are numbered as they would be there."""
        self._require_open()
        return {node: node for node in self._store.read().machine.topology.node_ids}

    def perform(self, action: Action) -> None:
        """Carry out one action, or raise having changed nothing."""
        self._require_open()
        with self._store.changing() as transaction:
            transaction.state = carry_out(transaction.state, action, self._owner, self._read_guest, self._choose_nodes)

    def alter(self, name: str, change: Callable[[Domain], Domain]) -> None:
        """Change a domain as somebody with `xl` in Dom0 would, behind domicile's back: for demonstrations and tests.

        Raises `Refused` where no such domain is there, or a node has not the memory.
        """
        self._require_open()
        with self._store.changing() as transaction:
            transaction.state = alter(transaction.state, name, change)

    def wait(self, seconds: float, progress: Callable[[float], None] = no_progress) -> None:
        """Let so much simulated time pass, in quanta of 10 ms, and keep what comes of it.

        It passes in pieces, each of which is kept when it is done: an interrupt (or the death of this process) loses
        no more than the last. Between two of them others may act on the host. Raises `Refused` for a host whose
        schedulers are not simulated, `HostFailed` where what was kept makes no sense.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"{seconds} s cannot pass")
        self._require_open()
        passed_s, piece_s = 0.0, 1.0
        while passed_s < seconds:
            # pieces are whole seconds but for the last, so that rounding up to quanta happens once
            piece_s = min(piece_s, seconds - passed_s)
            begun = time.monotonic()
            self._let_pass(piece_s)
            passed_s += piece_s
            progress(passed_s)
            if time.monotonic() - begun < PIECE_TAKES_S / 2:
                piece_s *= 2

    def _let_pass(self, seconds: float) -> None:
        """One piece of time. It is worked out while others may use the host, and again if they have changed it."""
        for _ in range(ATTEMPTS_ASIDE):
            before = self._store.read()
            after = self._advanced(before, seconds)
            with self._store.changing() as transaction:
                if transaction.state == before:
                    transaction.state = after
                    return
        with self._store.changing() as transaction:
            transaction.state = self._advanced(transaction.state, seconds)

    def _advanced(self, state: SimulatedState, seconds: float) -> SimulatedState:
        try:
            return advance(state, seconds)
        except ValueError as error:
            raise HostFailed(f"{self._uri}: {error}; {self._store.remedy}") from error

    def close(self) -> None:
        """End the connection and what belongs to it; again is not an error."""
        if not self._open:
            return
        self._open = False
        try:
            with self._store.changing() as transaction:
                transaction.state = transaction.state.without(lambda owner: owner == self._owner)
        finally:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if not self._open:
            raise HostFailed(f"{self._uri}: the connection is closed")
