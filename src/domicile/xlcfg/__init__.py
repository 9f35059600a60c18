"""`xl.cfg`: read as `xl` reads it, edited without disturbing what is there."""

from domicile.xlcfg.affinity import format_cpus, parse_cpus
from domicile.xlcfg.guest import Hardware, libxl_need_kib, place_into, read_guest, read_guests
from domicile.xlcfg.syntax import Config, decode, encode, parse, read_config

__all__ = [
    "Config",
    "Hardware",
    "decode",
    "encode",
    "format_cpus",
    "libxl_need_kib",
    "parse",
    "parse_cpus",
    "place_into",
    "read_config",
    "read_guest",
    "read_guests",
]
