"""`SimulatedHost`: the `Host` protocol over a simulated host's file."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Self

from domicile.errors import HostFailed
from domicile.hosts.actions import Action
from domicile.hosts.protocol import Capabilities
from domicile.hosts.simulated.acts import alter, carry_out
from domicile.hosts.simulated.build import ReadGuest
from domicile.hosts.simulated.placement import ChooseNodes, least_used_nodes
from domicile.hosts.simulated.state import Owner
from domicile.hosts.simulated.store import Store
from domicile.hosts.simulated.view import snapshot_of
from domicile.local.process import this_process
from domicile.state.model import Domain, MemoryMapAge, Snapshot

__all__ = ["SimulatedHost"]


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
        """All but load: there is no time here."""
        return Capabilities(via="simulated", memory_map=True, node_affinity=True, pcpu_idle=False)

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        """The host now, always with its memory map: it costs nothing here."""
        del memory_map
        self._require_open()
        return snapshot_of(self._store.read(), time.time())

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
