"""Pipes between two of xl's, or between a file and xl: what goes through them is led through us."""

import os
import select
import time
from contextlib import suppress
from typing import Iterator

from domicile.hosts.xen.dom0.mover.stop import Stop
from domicile.hosts.xen.dom0.mover.task import POLL_S, Task

BLOCK = 1 << 18


def make_fifo(path: str) -> None:
    """A pipe by this name, and a new one."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    os.mkfifo(path, 0o600)


def open_fifo(task: Task, path: str, mode: int) -> int:
    """Our end of a pipe that xl's side has the other of; `Stop` if xl ends before it opens it."""
    while True:
        try:
            descriptor = os.open(path, mode | os.O_NONBLOCK)
        except OSError:
            # for writing, as long as nobody reads
            descriptor = -1
        if descriptor >= 0 and (mode == os.O_WRONLY or writer_there(task, descriptor)):
            return descriptor
        if not task.working():
            raise Stop("failed", task.last_words())
        time.sleep(POLL_S / 4)


def writer_there(task: Task, descriptor: int) -> bool:
    """Whether something can be read from a pipe: until somebody writes it looks as if it had ended."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while task.working():
        events = poller.poll(1000 * POLL_S)
        if events and events[0][1] & select.POLLIN:
            return True
    raise Stop("failed", task.last_words())


def lead(source: int, sink: int) -> Iterator[int]:
    """Pass on all that comes, in blocks; after each, how many bytes that were."""
    sent = 0
    while True:
        block = os.read(source, BLOCK)
        if not block:
            return
        send(sink, block)
        sent += len(block)
        yield sent


def send(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
