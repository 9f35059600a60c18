"""That no layout was found, as the searches say it to who asked for one."""

from __future__ import annotations

__all__ = ["NoWay"]


class NoWay(Exception):
    """No layout with room for all was found; `guest` (its index) is one that has none. Internal."""

    def __init__(self, guest: int) -> None:
        self.guest = guest
        super().__init__(guest)
