"""The tiny guests' `xl.cfg` text, and the load that they are told to carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domicile.errors import BadInput
from domicile.lab.guests.image import INITRD_NAME, KERNEL_NAME, PACKED_KERNEL_NAME
from domicile.state.model import DomainType

__all__ = ["GUESTS_FOLDER", "IDLE", "LEAST_MEMORY_MIB", "ConfigValue", "Load", "guest_config", "touchable_mib"]

GUESTS_FOLDER = "/var/lib/domicile/guests"
"""Where Dom0 has the guests' kernel and initramfs."""

ConfigValue = str | int | Sequence["ConfigValue"]
"""What an `xl.cfg` key can be set to: a string, a number or a list of these."""

LEAST_MEMORY_MIB: Mapping[DomainType, int] = dict.fromkeys(DomainType, 96)
"""The least memory with which each type was seen to boot; see `touchable_mib` for what is free then."""

OWN_MIB = 84
"""What a tiny guest needs for itself, whatever its size: of 128 MiB its kernel reports 79, and ran out of memory when a
load had 52 of them."""

BASE_ARGUMENTS = "console=hvc0 quiet panic=-1"


@dataclass(frozen=True, slots=True)
class Load:
    """What a guest does: `busy` vCPUs compute and between them keep touching `touch_mib` MiB.

    With `pattern` each word read is checked to be what was stored there. After each time that all of it was touched it
    rests for `pause_ms`: a vCPU that never rests takes a CPU of the computer that emulates it from all others.
    """

    busy: int = 0
    touch_mib: int = 0
    pattern: bool = False
    pause_ms: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.busy <= 1024 or not 0 <= self.touch_mib < 100_000 or not 0 <= self.pause_ms < 100_000:
            raise ValueError(f"no load of a tiny guest: {self}")
        if self.touch_mib and not self.busy:
            raise ValueError("memory is touched by busy vCPUs; give at least one")

    @property
    def text(self) -> str:
        """The load in the guest's own words: on its command line, as a command, and as the state that it publishes."""
        return f"busy={self.busy} touch_mib={self.touch_mib} pattern={int(self.pattern)} pause_ms={self.pause_ms}"


IDLE = Load()


def touchable_mib(memory_mib: int) -> int:
    """How much a load of a guest of this size can touch."""
    return max(memory_mib - OWN_MIB, 0)


def guest_config(
    name: str,
    type: DomainType | str,  # noqa: A002 - the key's name in xl.cfg
    vcpus: int,
    memory_mib: int,
    *,
    load: Load = IDLE,
    keys: Mapping[str, ConfigValue] | None = None,
    folder: str = GUESTS_FOLDER,
) -> str:
    """The `xl.cfg` of a tiny guest.

    `keys` are further keys ("cpus", "cpus_soft", "vnuma", "pci", ...); one of the keys written here may be given too
    and then replaces it, but for `extra`, whose text is added. Raises `BadInput` for what cannot be written.
    """
    kind = DomainType(type)
    further = dict(keys or {})
    arguments = " ".join(part for part in (BASE_ARGUMENTS, load.text, str(further.pop("extra", ""))) if part)
    config: dict[str, ConfigValue] = {
        "name": name,
        "type": kind.value,
        "vcpus": vcpus,
        "memory": memory_mib,
        # hvmloader starts only a packed one
        "kernel": f"{folder}/{PACKED_KERNEL_NAME if kind is DomainType.HVM else KERNEL_NAME}",
        "ramdisk": f"{folder}/{INITRD_NAME}",
        "extra": arguments,
        "on_reboot": "destroy",
        "on_crash": "destroy",
    }
    if kind is DomainType.HVM:
        # no screen: its memory and its server are all cost here
        config |= {"vga": "none", "vnc": 0, "usb": 0}
    config |= further
    return "".join(f"{key} = {_written(key, value)}\n" for key, value in config.items())


def _written(key: str, value: ConfigValue) -> str:
    """A value as `xl` reads it (tools/libs/util/libxlu_cfg_l.l of Xen 4.17: no escapes but in double quotes)."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        if not value.isprintable() or '"' in value or "\\" in value:
            raise BadInput("tiny guest", f"{value!r} cannot be written in an xl.cfg", key)
        return f'"{value}"'
    if not isinstance(value, Sequence):
        raise BadInput("tiny guest", f"{value!r} is nothing that an xl.cfg has", key)
    return "[" + ", ".join(_written(key, item) for item in value) + "]"
