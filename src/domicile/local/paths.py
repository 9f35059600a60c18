"""Where domicile keeps what outlives a process: the user's state folder, or the one that `DOMICILE_STATE` names.

The service keeps its part in `SERVICE_FOLDER`, where root's commands find it without being told.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path

import platformdirs

from domicile.errors import HostFailed

__all__ = ["STATE_VARIABLE", "file_stem", "private_folder", "state_file", "state_folder"]

STATE_VARIABLE = "DOMICILE_STATE"
SERVICE_FOLDER = Path("/var/lib/domicile")
"""`StateDirectory=` of the unit that `domicile run --unit` prints."""


def state_folder() -> Path:
    """The folder that holds simulated hosts and journals; it need not be there yet."""
    given = os.environ.get(STATE_VARIABLE)
    return Path(given).absolute() if given else Path(platformdirs.user_state_dir("domicile"))


def state_file(relative: str) -> Path:
    """A file in the state folder; for root, who named no folder, the service's where that has one."""
    of_service = SERVICE_FOLDER / relative
    if not os.environ.get(STATE_VARIABLE) and os.geteuid() == 0 and of_service.exists():
        return of_service
    return state_folder() / relative


def private_folder(path: Path) -> Path:
    """The folder, made for this user alone where it is missing. Raises `HostFailed` where it cannot be made."""
    try:
        for missing in [part for part in (path, *path.parents) if not part.exists()][::-1]:
            missing.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostFailed(
            f"{path}: cannot be made ({error.strerror}); set {STATE_VARIABLE} to a folder of yours"
        ) from error
    return path


def file_stem(name: str) -> str:
    """A file name for anything: its readable characters, and a digest that keeps different names apart."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:48]
    return f"{readable}-{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
