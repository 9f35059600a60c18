"""The URI of a simulated host: `sim:///NAME`, and at its first use what it is to be.

    sim:///NAME?machine=PRESET&scheduler=credit&seed=7

Without `machine=` the name is the preset's. What is said of a host that is there already has to be so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from domicile.errors import BadInput
from domicile.hosts.simulated.advance import SCHEDULERS

__all__ = ["DEFAULT_SCHEDULER", "Address", "parse_address"]

DEFAULT_SCHEDULER = "credit2"
WORDS = ("machine", "scheduler", "seed")


@dataclass(frozen=True, slots=True)
class Address:
    """A simulated host's name, and what is said of it (texts, by word; see the module)."""

    uri: str
    name: str
    said: Mapping[str, str]

    @property
    def machine(self) -> str:
        """The preset that it is made of."""
        return self.said.get("machine", self.name)

    @property
    def scheduler(self) -> str:
        """The scheduler of its cpupool."""
        return self.said.get("scheduler", DEFAULT_SCHEDULER)

    @property
    def seed(self) -> int:
        """What chance comes from."""
        return int(self.said.get("seed", "0"))


def parse_address(uri: str) -> Address:
    """Read a URI. Raises `BadInput`: for a name that is no plain file name, a word or value that there is not."""
    try:
        parts = urlsplit(uri)
        words = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise BadInput(uri, f"not a host URI ({error}); give sim:///NAME") from error
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme != "sim" or parts.netloc or parts.fragment:
        raise BadInput(uri, "a simulated host is named as sim:///NAME, with three slashes")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise BadInput(
            uri, "a simulated host's name is letters, digits, '.', '_' and '-', beginning with one of the first two"
        )
    said = dict(words)
    for word in said:
        if word not in WORDS:
            raise BadInput(uri, f"{word!r} is nothing to say of a simulated host; give {', '.join(WORDS)}")
    if len(said) < len(words):
        raise BadInput(uri, "says the same thing twice")
    if said.get("scheduler", DEFAULT_SCHEDULER) not in SCHEDULERS:
        raise BadInput(uri, f"{said['scheduler']!r} is none of {', '.join(SCHEDULERS)}", "scheduler")
    if not re.fullmatch(r"[0-9]{1,18}", said.get("seed", "0"), re.ASCII):
        raise BadInput(uri, f"{said['seed']!r} is no number from 0 to 999999999999999999", "seed")
    return Address(uri, name, said)
