"""Xen's Python bindings and libxenctrl: where they are, and the domains that they tell of.

Sources: tools/xl/xl_info.c, tools/python/xen/lowlevel/xc/xc.c, of Xen 4.17.
"""

import importlib
import os
import sys
from typing import Any, Dict, List, Optional, Tuple

from domicile.hosts.xen.dom0.files import read_text, readable
from domicile.hosts.xen.dom0.row import Row

BUFFER = 8192
"""Bytes for a set of ids: far more than any machine has, because libxenctrl reads and writes as many as Xen has."""


def xen_version() -> str:
    """The running Xen's "4.17", "" where the kernel does not tell."""
    folder = "/sys/hypervisor/version/"
    major, minor = read_text(folder + "major"), read_text(folder + "minor")
    return major + "." + minor if major and minor else ""


def find_bindings() -> None:
    """Have Python look for modules where Xen's are."""
    # Debian's place, then those that `python3 -S` has left out of sys.path
    folders = ["/usr/lib/xen-%s/lib/python" % xen_version(), "/usr/lib/python3/dist-packages"]
    own = "/python%d.%d/site-packages" % sys.version_info[:2]
    folders += [prefix + own for prefix in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")]
    sys.path += [folder for folder in folders if os.path.isdir(os.path.join(folder, "xen")) and folder not in sys.path]


def connect_xc() -> Any:
    """`xen.lowlevel.xc`'s connection to Xen. Raises what the binding raises."""
    return importlib.import_module("xen.lowlevel.xc").xc()


def connect_xs() -> Any:
    """`xen.lowlevel.xs`'s connection to xenstore. Raises what the binding raises."""
    return importlib.import_module("xen.lowlevel.xs").xs()


def open_libxenctrl() -> Tuple[Any, Any]:
    """The running Xen's libxenctrl and a connection to Xen, which is nothing if Xen cannot be reached."""
    import ctypes  # noqa: PLC0415  (dear to import, and not always needed)

    library = ctypes.CDLL("libxenctrl.so." + xen_version())
    library.xc_interface_open.restype = ctypes.c_void_p
    library.xc_interface_open.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
    library.xc_interface_close.argtypes = [ctypes.c_void_p]
    return library, library.xc_interface_open(None, None, 0)


def read_store(xs: Any, path: str) -> Optional[str]:
    """A value in xenstore, None if it is not there."""
    value = xs.read("", path)
    return value if value is None or isinstance(value, str) else readable(value)


def domain_infos(xc: Any, xs: Any) -> List[Dict[str, Any]]:
    """`domain_getinfo` of all domains, however many, with their names."""
    infos: List[Dict[str, Any]] = []
    while True:
        more = xc.domain_getinfo(infos[-1]["domid"] + 1 if infos else 0, 1024)
        infos += more
        if len(more) < 1024:
            break
    for info in infos:
        info["name"] = read_store(xs, "/local/domain/%d/name" % info["domid"]) or "(null)"
        digits = "".join("%02x" % byte for byte in info["handle"])
        info["uuid"] = "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])
        # the binding shows a crash as not shut down
        shut = info["shutdown"] or info["crashed"]
        info["reason"] = info["shutdown_reason"] if shut else None
        flags = [("r", info["running"]), ("b", info["blocked"]), ("p", info["paused"]), ("s", shut)]
        info["state"] = "".join(letter if flag else "-" for letter, flag in flags)
        info["state"] += "-rscwS"[info["reason"]] if shut and info["reason"] < 6 else "?" if shut else "-"
        info["state"] += "d" if info["dying"] else "-"
    return infos


def domain_rows(xc: Any, xs: Any) -> List[Row]:
    """The domains, as `xl list -v` would show them."""
    return [
        Row(info["domid"], info["name"], info["uuid"], info["state"], info["mem_kb"]) for info in domain_infos(xc, xs)
    ]
