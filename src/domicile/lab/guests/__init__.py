"""The lab's tiny guests: a Debian kernel and a busybox initramfs that says what it sees and keeps busy as told.

`build` makes them for Dom0, `guest_config` gives their `xl.cfg`, `domicile.lab.guests.control` commands and watches
them.
"""

from __future__ import annotations

from domicile.lab.guests.config import GUESTS_FOLDER, IDLE, LEAST_MEMORY_MIB, Load, guest_config
from domicile.lab.guests.image import build

__all__ = ["GUESTS_FOLDER", "IDLE", "LEAST_MEMORY_MIB", "Load", "build", "guest_config"]
