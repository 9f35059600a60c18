"""A program whose input and output are a conversation in lines, every step of it with a time limit."""

from __future__ import annotations

import os
import selectors
import subprocess
import tempfile
import threading
import time
from contextlib import suppress

from domicile.errors import HostFailed
from domicile.hosts.xen.transport import Transport

__all__ = ["Conversation"]

MAX_LINE = 1 << 28
CLOSE_S = 30.0


class Conversation:
    """One connection. Any failure closes it for good: what comes after an answer missed belongs to nobody."""

    def __init__(self, transport: Transport, command: str) -> None:
        self.transport = transport
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the connection)
        self._writing = threading.RLock()
        self._buffer = bytearray()
        self._failure: HostFailed | None = None
        try:
            self._process = subprocess.Popen(
                transport.argv(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                # an interrupt at the terminal is for us; we then still need the connection to clean up through
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._complaints.close()
            raise HostFailed(
                f"{transport.where}: {error.filename or 'ssh'} cannot be started: {error.strerror}"
            ) from error
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._input.fileno(), False)
        os.set_blocking(self._output.fileno(), False)

    def send(self, data: bytes, limit_s: float) -> None:
        """Write all of it. Raises `HostFailed`."""
        deadline = time.monotonic() + limit_s
        with self._writing:
            self._require_open()
            rest = memoryview(data)
            while rest:
                self._wait(self._input.fileno(), selectors.EVENT_WRITE, deadline)
                try:
                    rest = rest[os.write(self._input.fileno(), rest) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise self._ended() from error

    def beat(self, data: bytes) -> None:
        """Write a sign of life, unless something is being written anyway; a connection that is broken shows later."""
        if self._failure is None and self._writing.acquire(blocking=False):
            try:
                with suppress(OSError, ValueError):
                    os.write(self._input.fileno(), data)
            finally:
                self._writing.release()

    def receive(self, limit_s: float) -> str:
        """The next line, without its end. Raises `HostFailed`."""
        deadline = time.monotonic() + limit_s
        searched = 0
        self._require_open()
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_LINE:
                raise self.fail(f"an answer of more than {MAX_LINE >> 20} MiB")
            self._wait(self._output.fileno(), selectors.EVENT_READ, deadline)
            try:
                chunk = os.read(self._output.fileno(), 1 << 20)
            except BlockingIOError:
                continue
            if not chunk:
                raise self._ended()
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.decode("utf-8", "backslashreplace")

    def fail(self, problem: str) -> HostFailed:
        """Close the connection for good; the error to raise, now and from every later call."""
        if self._failure is None:
            self._failure = HostFailed(f"{self.transport.where}: {problem}")
            self._end(patience_s=0.0)
        return self._failure

    def close(self) -> None:
        """Let the far side clean up, and wait for it to end."""
        if self._failure is None:
            self._failure = HostFailed(f"{self.transport.where}: the connection is closed")
            self._end(patience_s=CLOSE_S)

    def _require_open(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        """Wait until the descriptor is ready."""
        left = deadline - time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            if left <= 0 or not selector.select(left):
                raise self.fail("no answer within the time limit; the connection was given up")

    def _ended(self) -> HostFailed:
        """The far side is gone: why?"""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        self._complaints.seek(0)
        complaint = self._complaints.read(1 << 16).decode("utf-8", "backslashreplace")
        if self._failure is None:
            self._failure = HostFailed(self.transport.explain(complaint))
            self._end(patience_s=0.0)
        return self._failure

    def _end(self, patience_s: float) -> None:
        """End of input tells the far side; a program that stays on is ended."""
        with self._writing, suppress(OSError):
            # under the lock: a sign of life must not go to whatever gets this descriptor next
            self._input.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._output.close()
        self._complaints.close()
