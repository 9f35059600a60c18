"""What can keep watch over a simulated host while its time passes: nobody, domicile's manager, numad, one like ESXi's.

All meet `Daemon`: it lets the host's time pass until it acts the next time, looks as often as it does by itself, and
acts. What is decided is decided elsewhere, by the manager itself and by `policies.baselines`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from domicile.bench.live_host import LiveHost
from domicile.local.supervisor import Supervisor
from domicile.manager import daemon as manager
from domicile.manager.balance import Balancer
from domicile.manager.intents import ActStatus
from domicile.manager.journal import Journal
from domicile.manager.signals import Told
from domicile.policies.baselines import esxi, numad_daemon
from domicile.policies.baselines.rehoming import Rehoming
from domicile.policies.scheduling.watch import Watch, observe
from domicile.state.mandate import Mandate
from domicile.state.model import Snapshot
from domicile.state.request import Intent

__all__ = ["ROUND_S", "Daemon", "Esxi", "Manager", "Nobody", "Numad", "managed_by"]

ROUND_S = Mandate().interval_s
AS_SHIPPED = Intent()
"""What `domicile run` goes by where there is no domicile.toml."""


class Daemon(Protocol):
    """Who keeps watch over a host. `moves`: how often a domain that had a home got another one."""

    @property
    def moves(self) -> int: ...

    def round(self) -> None:
        """Let time pass until it acts the next time, and act."""
        ...


class Nobody:
    """Time passes."""

    moves = 0

    def __init__(self, host: LiveHost) -> None:
        self._host = host

    def round(self) -> None:
        """Nothing but time."""
        self._host.wait(ROUND_S)


class Manager:
    """`domicile run`: its own rounds, with a journal that nobody else reads."""

    def __init__(self, daemon: manager.Daemon) -> None:
        self._daemon = daemon

    @classmethod
    @contextmanager
    def of(cls, host: LiveHost, intent: Intent = AS_SHIPPED) -> Iterator[Manager]:
        """The manager of this host, as long as the block lasts."""
        with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.sqlite", "simulation") as journal:
            balancer = Balancer(host, journal, intent)
            daemon = manager.Daemon(balancer, "a simulation", lambda: intent, Told(), Supervisor())
            daemon.begin()
            yield cls(daemon)

    @property
    def moves(self) -> int:
        """Domains that got other nodes: by soft affinity, or with their memory."""
        journal = self._daemon.balancer.journal
        acts = {(act.plan, act.uuid) for act in journal.acts() if act.status is ActStatus.DONE}
        return len(acts | {(move.plan, move.order.uuid) for move in journal.moves()})

    def round(self) -> None:
        """One of its rounds."""
        self._daemon.round()


Rehome = Callable[[str, Sequence[int]], bool]
"""How a domain gets another home (node ids), and whether that was begun: a host's `rehome` or `rehome_by_page`."""


class _Watching:
    """A daemon that is asked after it has looked, and whose homes are carried out at once."""

    def __init__(self, host: LiveHost, rehome: Rehome) -> None:
        self._host, self._rehome = host, rehome
        self._watch = Watch()
        self.moves = 0

    def _look(self, seconds: float) -> Snapshot:
        self._host.wait(seconds)
        snapshot = self._host.snapshot()
        self._watch = observe(self._watch, snapshot)
        return self._host.with_homes_to_come(snapshot)

    def _carry_out(self, rehomings: Iterable[Rehoming]) -> None:
        for each in rehomings:
            self.moves += self._rehome(each.domain, each.nodes) and bool(each.before)


class Esxi(_Watching):
    """The 2-second rebalancer."""

    def round(self) -> None:
        """A period."""
        snapshot = self._look(esxi.PERIOD_S)
        self._carry_out(esxi.rebalance(snapshot, self._watch.used))


class Numad(_Watching):
    """numad as a daemon: it does nothing else while memory moves, since the system call that moves it returns then."""

    def __init__(self, host: LiveHost, rehome: Rehome) -> None:
        super().__init__(host, rehome)
        self._bound_at: Mapping[str, float] = {}
        self._next_s = numad_daemon.MAX_INTERVAL_S

    def round(self) -> None:
        """A look."""
        snapshot = self._look(self._next_s)
        if self._host.moving:
            return
        found = numad_daemon.manage(snapshot, self._watch.used, self._bound_at)
        self._bound_at, self._next_s = found.bound_at, found.next_s
        self._carry_out([found.move] if found.move else [])


@contextmanager
def managed_by(host: LiveHost, managed: bool) -> Iterator[Daemon]:
    """domicile's manager, or nobody."""
    if not managed:
        yield Nobody(host)
        return
    with Manager.of(host) as daemon:
        yield daemon
