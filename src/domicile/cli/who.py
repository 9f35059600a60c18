"""How a manager is called for those who find it at work."""

from __future__ import annotations

import os
import socket

__all__ = ["who"]


def who(command_name: str) -> str:
    """How a manager is called for those who find it there."""
    return f"domicile {command_name}, pid {os.getpid()} on {socket.gethostname()}"
