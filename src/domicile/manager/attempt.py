"""One change of a host that is written down: done, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

from domicile.errors import DomicileError, Halted, HostFailed
from domicile.hosts.actions import Action
from domicile.hosts.protocol import Host
from domicile.manager.intents import ActStatus

__all__ = ["attempt"]


def attempt(host: Host, action: Action, end: Callable[[ActStatus], object], failed: list[str]) -> None:
    """Perform it, and have `end` write down what came of it. What the host refuses is a line in `failed`.

    Raises `HostFailed` and `Halted`, with nothing written: whether it was done where the host failed is for the next to
    find out, who can look at it.
    """
    try:
        host.perform(action)
    except (HostFailed, Halted):
        raise
    except DomicileError as error:
        end(ActStatus.FAILED)
        failed.append(str(error))
    else:
        end(ActStatus.DONE)
