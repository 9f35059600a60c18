"""Children that do not outlive their parent (Linux `prctl(2)`, PR_SET_PDEATHSIG)."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

__all__ = ["dying_with_us"]

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def dying_with_us(sign: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: the child gets `sign` when the thread that started it ends, however it ends."""
    parent = os.getpid()

    def arrange() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(sign), 0, 0, 0)
        if os.getppid() != parent:  # it had ended before we asked
            os.kill(os.getpid(), sign)

    return arrange
