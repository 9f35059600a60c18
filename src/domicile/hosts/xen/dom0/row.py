"""A domain, as both programs know one."""

from typing import NamedTuple


class Row(NamedTuple):
    """A domain, as `xl list -v` shows it."""

    id: int
    name: str
    uuid: str
    state: str
    memory_kb: int

    @property
    def paused(self) -> bool:
        """Paused, or still being built."""
        return self.state[2] == "p"

    @property
    def suspended(self) -> bool:
        """Shut down in order to be saved: SHUTDOWN_suspend (xen/include/public/sched.h)."""
        return self.state[3:5] == "ss"

    @property
    def dying(self) -> bool:
        """Destroyed, with pages still held by somebody."""
        return self.state[5] == "d"
