"""Runs in the lab's Dom0: prints which machine frames domains own, as JSON {"ID": [[first, count], ...], ...}.

Arguments: domain ids. It asks Xen itself, with XEN_DOMCTL_getmemlist (xen/include/public/domctl.h and
xen/arch/x86/domctl.c, 4.17: for a PV Dom0, up to 4 GiB a domain), through libxencall, whose interface does not change.
The answer is true when it is given: a domain that is started, ballooned or moved afterwards owns other frames.
"""

from __future__ import annotations

import ctypes
import json
import sys

DOMCTL = 36  # __HYPERVISOR_domctl
GETMEMLIST = 6
INTERFACE_VERSIONS = {"4.17": 0x15, "4.16": 0x14, "4.18": 0x16}
MOST_FRAMES = (4 << 30) >> 12


class GetMemList(ctypes.Structure):
    """struct xen_domctl with its getmemlist member."""

    _fields_ = (
        ("cmd", ctypes.c_uint32),
        ("interface_version", ctypes.c_uint32),
        ("domain", ctypes.c_uint16),
        ("pad", ctypes.c_uint16 * 3),
        ("max_pfns", ctypes.c_uint64),
        ("start_pfn", ctypes.c_uint64),
        ("buffer", ctypes.c_uint64),
        ("num_pfns", ctypes.c_uint64),
        ("rest", ctypes.c_uint8 * 96),
    )


def xen_version() -> str:
    """Major and minor version of the running Xen."""
    with open("/sys/hypervisor/version/major") as major, open("/sys/hypervisor/version/minor") as minor:  # noqa: PTH123
        return f"{major.read().strip()}.{minor.read().strip()}"


def runs(frames: list[int]) -> list[list[int]]:
    """Frame numbers as [first, count] of each run of consecutive ones."""
    found: list[list[int]] = []
    for frame in sorted(frames):
        if found and found[-1][0] + found[-1][1] == frame:
            found[-1][1] += 1
        else:
            found.append([frame, 1])
    return found


def main(domains: list[int]) -> None:
    """Print the frames of these domains."""
    version = INTERFACE_VERSIONS.get(xen_version())
    if version is None:
        sys.exit(f"Xen {xen_version()}: its domctl interface is not known here")
    library = ctypes.CDLL("libxencall.so.1", use_errno=True)
    library.xencall_open.restype = ctypes.c_void_p
    library.xencall_open.argtypes = (ctypes.c_void_p, ctypes.c_uint)
    library.xencall_alloc_buffer.restype = ctypes.c_void_p
    library.xencall_alloc_buffer.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    library.xencall1.argtypes = (ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint64)
    handle = library.xencall_open(None, 0)
    if not handle:
        sys.exit("no access to Xen: not a Dom0, or not root")
    request_at = library.xencall_alloc_buffer(handle, ctypes.sizeof(GetMemList))
    frames_at = library.xencall_alloc_buffer(handle, MOST_FRAMES * 8)
    if not request_at or not frames_at:
        sys.exit("no memory for a request to Xen")
    owned = {}
    for domain in domains:
        request = GetMemList.from_address(request_at)
        request.cmd, request.interface_version, request.domain = GETMEMLIST, version, domain
        request.max_pfns, request.start_pfn, request.buffer, request.num_pfns = MOST_FRAMES, 0, frames_at, 0
        if library.xencall1(handle, DOMCTL, request_at) != 0:
            sys.exit(f"Xen does not tell the frames of domain {domain}: error {ctypes.get_errno()}")
        owned[domain] = runs(list((ctypes.c_uint64 * request.num_pfns).from_address(frames_at)))
    json.dump(owned, sys.stdout)


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
