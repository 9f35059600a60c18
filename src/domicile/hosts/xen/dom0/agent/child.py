"""Programs that are started here and waited for."""

import os
import signal
import time
from contextlib import suppress
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from domicile.hosts.xen.dom0.files import readable
from domicile.hosts.xen.dom0.programs import search_path


class Done(NamedTuple):
    """A program that ended: status is None if it was killed at its time limit."""

    status: Optional[int]
    out: str
    err: str


def how_it_failed(done: Done) -> str:
    """What an exit status says; a signal that nobody here sent is most often the kernel's, short of memory."""
    if done.status == -signal.SIGKILL:
        return "was killed; Dom0's kernel does so when Dom0 is out of memory (see dmesg)"
    if done.status is not None and done.status < 0:
        return "was ended by signal %d" % -done.status
    return "failed" if (done.err or done.out).strip() else "failed with status %s and said nothing" % done.status


class Child:
    """A program that runs: its own session, no input, its output collected."""

    def __init__(self, argv: Sequence[str], before: Optional[Callable[[], None]]) -> None:
        import subprocess  # noqa: PLC0415  (with all that it imports, dear where nothing has to be started)

        environment = dict(os.environ, LC_ALL="C", PATH=search_path())
        self.process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment,
            preexec_fn=before,  # noqa: PLW1509  (one thread only)
        )
        assert self.process.stdout is not None and self.process.stderr is not None  # noqa: PT018, S101
        self.pipes: Dict[int, List[bytes]] = {self.process.stdout.fileno(): [], self.process.stderr.fileno(): []}
        self.out, self.err = self.pipes.values()
        self.open = list(self.pipes)
        self.ended_at: Optional[float] = None
        self.killed = False

    def take(self, descriptor: int) -> None:
        """Read what there is on one of its pipes."""
        chunk = os.read(descriptor, 1 << 16)
        if chunk:
            self.pipes[descriptor].append(chunk)
        else:
            self.open.remove(descriptor)

    def busy(self) -> bool:
        """Whether it runs or its output may still come. A daemon that it left behind may hold the pipes for ever."""
        if self.ended_at is None and self.process.poll() is not None:
            self.ended_at = time.monotonic()
        if self.ended_at is not None and time.monotonic() - self.ended_at > 1.0:
            self.open = []
        return bool(self.open) or self.ended_at is None

    def kill(self) -> None:
        """End it with all that it started in its session."""
        self.killed = True
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def done(self) -> Done:
        """What became of it."""
        status = self.process.poll()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return Done(None if self.killed else status, readable(b"".join(self.out)), readable(b"".join(self.err)))
