"""What the manager tells of itself while it runs: events, for people and for machines, by way of `logging`."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["LOGGER", "tell"]

LOGGER = "domicile.manager"

_log = logging.getLogger(LOGGER)


def tell(event: str, what: str, why: str = "", *, domain: str = "", level: int = logging.INFO, **fields: Any) -> None:
    """Something happened. `event` names its kind, for machines; `what` and `why` are for people, `fields` for both.

    Fields are what JSON knows: numbers, texts, lists and tables of them. The record has `event`, `domain`, `why` and
    `fields` as attributes.
    """
    _log.log(level, "%s", what, extra={"event": event, "domain": domain, "why": why, "fields": fields})
