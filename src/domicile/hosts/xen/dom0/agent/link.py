"""The connection to the client."""

import json
import os
import select
import signal
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

LEASE_S = float(os.environ.get("DOMICILE_LEASE_S", "30"))


class Link:
    """The connection to the client, without ever blocking on it."""

    def __init__(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        self.inward, self.outward = os.dup(0), os.dup(1)
        # children and stray prints must neither eat requests nor write between the answers
        os.dup2(null, 0)
        os.dup2(null, 1)
        self.alarm, alarm_in = os.pipe()
        for descriptor in (self.inward, self.outward, self.alarm, alarm_in):
            os.set_blocking(descriptor, False)
        self.gone = False
        self.heard = time.monotonic()
        self.partial = b""
        self.lines: List[bytes] = []
        signal.set_wakeup_fd(alarm_in)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.leave)

    def leave(self, *_: Any) -> None:
        """The client is gone, or we are told to go."""
        self.gone = True

    def wait(
        self, timeout_s: float, reading: Sequence[int] = (), writing: Sequence[int] = ()
    ) -> Tuple[List[int], List[int]]:
        """Wait until one of the descriptors is ready or the client says something; gives the ready ones."""
        mine = [self.alarm] if self.gone else [self.alarm, self.inward]
        ready, writable, _ = select.select(mine + list(reading), list(writing), [], max(timeout_s, 0.0))
        if self.alarm in ready:
            os.read(self.alarm, 512)
        if self.inward in ready:
            self.take_in()
        elif time.monotonic() - self.heard > LEASE_S:
            self.gone = True
        return [descriptor for descriptor in ready if descriptor in reading], writable

    def take_in(self) -> None:
        """Read what the client has sent."""
        try:
            chunk = os.read(self.inward, 1 << 20)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.gone = True
            return
        self.heard = time.monotonic()
        lines = (self.partial + chunk).split(b"\n")
        self.partial = lines.pop()
        self.lines.extend(line for line in lines if line.strip())

    def next_line(self) -> Optional[bytes]:
        """The next request, None once the client is gone."""
        while not self.gone:
            if self.lines:
                return self.lines.pop(0)
            self.wait(1.0)
        return None

    def say(self, answer: Dict[str, Any]) -> None:
        """Send an answer; a client that went away meanwhile is noticed, not raised."""
        data = json.dumps(answer, separators=(",", ":")).encode("ascii") + b"\n"
        while data and not self.gone:
            try:
                data = data[os.write(self.outward, data) :]
            except BlockingIOError:
                self.wait(1.0, writing=[self.outward])
            except OSError:
                self.gone = True
