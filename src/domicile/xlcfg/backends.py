"""What of a guest's I/O goes through Dom0: the bridges of its `vif=` and the disks of its `disk=`.

Source: docs/man/xl-network-configuration.5 and xl-disk-configuration.5 of Xen 4.17, tools/xl/xl_parse.c. Only what
tells where the backend is is read, and nothing is refused: `xl` has the last word on these. A device whose `backend=`
is another domain is left out, and so is an empty CD-ROM drive.
"""

from __future__ import annotations

import re

from domicile.xlcfg.syntax import Config
from domicile.xlcfg.values import Atom, Items

__all__ = ["DEFAULT_BRIDGE", "dom0_backends"]

DEFAULT_BRIDGE = "xenbr0"
"""xl's, where neither the configuration nor xl.conf names one."""

_TARGET = re.compile(r"(?:^|,)\s*target=(.*)", re.DOTALL)
_OLD_PREFIXES = re.compile(r"(?:(?:raw|qcow2?|vhd|phy|file|aio|tap2?|tapdisk):)+")
_DOM0 = {"", "0", "Domain-0"}


def dom0_backends(config: Config) -> tuple[str, ...]:
    """Bridges by name and disks by path (which begins with "/"), each once, in the configuration's order."""
    found = [_bridge(entry) for entry in _entries(config, "vif")] + [_disk(entry) for entry in _entries(config, "disk")]
    return tuple(dict.fromkeys(name for name in found if name))


def _entries(config: Config, key: str) -> list[str]:
    value = config.value(key)
    values = value.values if isinstance(value, Items) else ()
    return [entry.text for entry in values if isinstance(entry, Atom)]


def _options(spec: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in spec.split(","))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def _bridge(spec: str) -> str:
    options = _options(spec)
    return options.get("bridge", DEFAULT_BRIDGE) if options.get("backend", "") in _DOM0 else ""


def _disk(spec: str) -> str:
    target = _TARGET.search(spec)
    before = spec[: target.start()] if target else spec
    if _options(before).get("backend", "") not in _DOM0:
        return ""
    path = target[1].strip() if target else spec.split(",", maxsplit=1)[0].strip()
    path = _OLD_PREFIXES.sub("", path, count=1)
    return path if path.startswith("/") else ""
