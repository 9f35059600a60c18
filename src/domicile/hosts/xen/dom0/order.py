"""What the agent and the mover have to agree on: the order of a move, and where domains are saved."""

import os
from contextlib import suppress
from typing import Dict, List, NamedTuple, Optional

SAVE_DIR = os.environ.get("DOMICILE_SAVE_DIR", "/var/lib/xen/domicile")


class Order(NamedTuple):
    """What to do, as `domicile.state.moves.MoveOrder` has it; `xl` is where that is.

    `hard` and `soft` are lists of CPUs for each vCPU; None leaves them out of the configuration.
    """

    token: str
    domain: str
    uuid: str
    way: str
    nodes: List[int]
    hard: Optional[List[List[int]]]
    soft: Optional[List[List[int]]]
    memory_mib: int
    after_mib: Dict[str, int]
    least_mib: int
    rate_mib_s: float
    limit_s: float
    weight: int
    cap_percent: int
    cpupool: str
    xl: str


def saved_file(uuid: str) -> str:
    """Where a domain is saved on its way."""
    return os.path.join(SAVE_DIR, uuid + ".save")


def saved_domains() -> List[str]:
    """The UUIDs of domains that a move has saved and not started again."""
    with suppress(OSError):
        return sorted(name[:-5] for name in os.listdir(SAVE_DIR) if name.endswith(".save"))
    return []
