"""A stage on which several processes use one simulated host, all of them in this process, in an order drawn by chance.

Each player is a thread that has the stage alone until its next call of the host or write to the journal: there the
stage picks who goes on. So one seed is one order of events, and thousands of orders take minutes. A player can be
killed at such a point: from then on it can do nothing, as if its process had gone; what its connection owned ends with
that, in its own time.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from domicile.hosts.simulated.state import Owner, SimulatedState
from domicile.hosts.simulated.store import Transaction
from domicile.local.process import ProcessId

__all__ = ["MOST_STEPS", "Aborted", "Killed", "Player", "SharedStore", "Stage"]

MOST_STEPS = 20_000
"""A schedule that takes more never ends: a failure."""


class Killed(BaseException):
    """This player's process is gone; nobody catches it."""


class Aborted(BaseException):
    """The schedule ends here, because something went wrong elsewhere."""


class SharedStore:
    """The state of a simulated host in memory, in place of its file. `watch` is told of each state before it counts."""

    remedy = "run the schedule again"

    def __init__(self, state: SimulatedState, watch: Callable[[SimulatedState], None]) -> None:
        self.state = state
        self.watch = watch
        self.ended: set[str] = set()

    def read(self) -> SimulatedState:
        """The state now, without what belongs to connections that have ended."""
        self.state = self.state.without(self._is_gone)
        return self.state

    @contextmanager
    def changing(self) -> Iterator[Transaction]:
        """Change it; an error leaves it as it was."""
        transaction = Transaction(self.read())
        yield transaction
        if transaction.state is not self.state:
            self.watch(transaction.state)
            self.state = transaction.state

    def close(self) -> None:
        """There is no file."""

    def _is_gone(self, owner: Owner) -> bool:
        return owner.connection in self.ended


class Player:
    """One process: what it does, and whether it still lives."""

    def __init__(self, stage: Stage, name: str, act: Callable[[Player], None]) -> None:
        self.stage = stage
        self.name = name
        self.dead = False
        self.ended = False
        self.error: BaseException | None = None
        self.process = ProcessId(100_000 + stage.count(), 1, "the stage")
        self._act = act
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def step(self) -> None:
        """Let it go on to its next point, or to its end."""
        self.stage.current = self
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self.stage.back.acquire()
        self.stage.current = None

    def pause(self) -> None:
        """Called by the player: let the others get on. Raises `Killed` when it is dead."""
        if self.dead:
            raise Killed
        if self.stage.aborted:
            raise Aborted
        self.stage.steps += 1
        if self.stage.alone:
            return
        self.stage.back.release()
        self._go.acquire()
        if self.stage.aborted:
            raise Aborted

    def die(self) -> None:
        """Its process ends here, as by kill -9."""
        self.dead = True
        self.stage.dead.add(self.process)
        self.stage.tell(f"{self.name}: killed")
        self.stage.died(self)
        raise Killed

    def join(self) -> None:
        """After its end."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._act(self)
        except (Killed, Aborted):
            pass
        except BaseException as error:
            # told by the stage, in the main thread
            self.error = error
        self.ended = True
        # an owner that has ended is as dead as one that was killed
        self.stage.dead.add(self.process)
        self.stage.back.release()


class Stage:
    """Players and their turns."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.back = threading.Semaphore(0)
        self.current: Player | None = None
        self.dead: set[ProcessId] = set()
        self.trace: list[str] = []
        self.steps = 0
        self.slept_s = 0.0
        self.aborted = False
        self.alone = False
        """Whether there is but one player, which then needs no turns."""
        self.between: Callable[[], None] = lambda: None
        """What happens between two turns."""
        self.died: Callable[[Player], None] = lambda player: None
        """What happens when a player is killed."""
        self._players = 0

    def count(self) -> int:
        """A number that no player had."""
        self._players += 1
        return self._players

    def tell(self, line: str) -> None:
        """For who has to find out what went wrong."""
        self.trace.append(line)

    def play(self, acts: dict[str, Callable[[Player], None]]) -> None:
        """Let these act beside each other, to their ends. Raises what one of them, or `between`, did not expect."""
        players = [Player(self, name, act) for name, act in acts.items()]
        left = list(players)
        try:
            while left:
                player = self.chance.choice(left)
                player.step()
                if player.ended:
                    left.remove(player)
                if player.error is not None:
                    raise player.error
                self.between()
                if self.steps > MOST_STEPS:
                    raise AssertionError("the schedule never ends")
        finally:
            self.aborted = True
            for player in left:
                if player._thread.ident is not None:
                    player.step()
            for player in players:
                player.join()
            self.aborted = False

    def act_alone(self, name: str, act: Callable[[Player], None]) -> None:
        """Let one act in this thread, with nobody beside it."""
        player = Player(self, name, act)
        before, self.current, self.alone = self.current, player, True
        try:
            act(player)
        except Killed:
            pass
        finally:
            self.current, self.alone = before, False
            self.dead.add(player.process)

    def sleep(self, seconds: float) -> None:
        """For `Patience`: time passes by itself."""
        self.slept_s += seconds
        if self.current is not None:
            self.current.pause()

    def clock(self) -> float:
        """For `Patience`, too."""
        return self.slept_s + self.steps * 0.01

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within, processes are the players."""

        def this_process() -> ProcessId:
            return self.current.process if self.current else ProcessId(99_999, 1, "the stage")

        def is_alive(process: ProcessId) -> bool:
            return process.pid > 0 and process not in self.dead

        with ExitStack() as stack:
            for module in ("manager.journal", "manager.migrate", "hosts.simulated.host", "manager.changes"):
                stack.enter_context(patch(f"domicile.{module}.this_process", this_process))
            for module in ("manager.journal", "manager.recovery"):
                stack.enter_context(patch(f"domicile.{module}.is_alive", is_alive))
            yield

    def is_alive(self, process: ProcessId) -> bool:
        """Whether a player lives."""
        return process not in self.dead
