"""The head of what `xl` saves or sends, and the configuration in it, changed for where the domain is to go.

Sources: tools/xl/xl.h (struct save_file_header), xl_saverestore.c, tools/libs/light/libxl_dom.c (libxl__build_pre), all
of Xen 4.17.
"""

import json
import os
import struct
from typing import Any, Dict

from domicile.hosts.xen.dom0.mover.stop import Stop
from domicile.hosts.xen.dom0.order import Order

MAGIC_BYTES = 32
HEADER = struct.Struct("=%dsIIII" % MAGIC_BYTES)
BYTE_ORDER = 0x01020304
JSON_FLAG = 1
MOST_CONFIG_BYTES = 1 << 24


def tailored(config: Dict[str, Any], order: Order) -> Dict[str, Any]:
    """A domain's configuration, as libxl keeps it, for where it is to go.

    Placement was done by others, so libxl does none: its memory is to come from its nodes, wherever its vCPUs are.
    """
    build = dict(config.get("b_info") or {})
    build.pop("cpumap", None)
    build["nodemap"] = order.nodes
    build["numa_placement"] = "False"
    for key, value in (("vcpu_hard_affinity", order.hard), ("vcpu_soft_affinity", order.soft)):
        build.pop(key, None)
        if value:
            build[key] = value
    build["sched_params"] = dict(build.get("sched_params") or {}, weight=order.weight, cap=order.cap_percent)
    created = dict(config.get("c_info") or {}, name=order.domain, uuid=order.uuid)
    if order.cpupool:
        created["pool_name"] = order.cpupool
    return dict(config, b_info=build, c_info=created)


def read_exactly(descriptor: int, size: int) -> bytes:
    """So many bytes; raises `Stop` where it ends before."""
    parts = []
    while size > 0:
        part = os.read(descriptor, size)
        if not part:
            raise Stop("failed", "xl ended before it sent the configuration")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def tailored_head(descriptor: int, order: Order) -> bytes:
    """Read the head of what xl saves or sends, and give it with the configuration that the domain is to have."""
    magic, byte_order, flags, optional_flags, length = HEADER.unpack(read_exactly(descriptor, HEADER.size))
    if byte_order != BYTE_ORDER or not flags & JSON_FLAG or not 4 <= length <= MOST_CONFIG_BYTES:
        raise Stop("failed", "xl sends a domain in a form that is not known here")
    optional = read_exactly(descriptor, length)
    (size,) = struct.unpack("=I", optional[:4])
    config = json.loads(optional[4 : 4 + size].rstrip(b"\0").decode("utf-8"))
    if config["c_info"]["uuid"] != order.uuid:
        raise Stop("failed", "xl sends another domain, of UUID %s" % config["c_info"]["uuid"])
    text = json.dumps(tailored(config, order)).encode("utf-8") + b"\0"
    rest = optional[4 + size :]
    changed = struct.pack("=I", len(text)) + text + rest
    return HEADER.pack(magic, byte_order, flags, optional_flags, len(changed)) + changed
