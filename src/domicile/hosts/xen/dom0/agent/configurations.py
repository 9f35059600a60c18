"""Domains' configurations, as libxl keeps them.

Source: tools/libs/light/libxl_dom.c (user data), of Xen 4.17.
"""

import json
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.xl import Xl
from domicile.hosts.xen.dom0.files import readable

USERDATA = "/var/lib/xen/userdata-d.%d.%s.libxl-json"


def essence(config: Dict[str, Any]) -> Dict[str, Any]:
    """What a snapshot needs of a domain's configuration in libxl's JSON (which leaves out what is 0)."""
    c_info, b_info = config.get("c_info") or {}, config.get("b_info") or {}
    return {
        "type": c_info.get("type"),
        "max_memkb": b_info.get("max_memkb"),
        "vnuma_nodes": b_info.get("vnuma_nodes") or [],
        "sched_params": b_info.get("sched_params") or {},
        "pcidevs": config.get("pcidevs") or [],
        "backends": [nic["bridge"] for nic in config.get("nics") or [] if nic.get("bridge")]
        + [disk["pdev_path"] for disk in config.get("disks") or [] if disk.get("pdev_path")],
    }


class Configurations:
    """The configurations, each read once for as long as it stays the same."""

    def __init__(self, xl: Xl) -> None:
        self.xl = xl
        self.configs: Dict[str, Tuple[Any, Dict[str, Any]]] = {}

    def of(self, ids: Sequence[Tuple[int, str]], notes: List[str]) -> Dict[int, Dict[str, Any]]:
        """Domain id to the essence of its configuration.

        libxl keeps it in a file for each domain, and writes it anew with each device added or taken away. For what
        another toolstack made there is no such file: `xl list -l` may know more, and is asked once for each domain.
        """
        known = {}
        for domid, uuid in ids:
            path = USERDATA % (domid, uuid)
            try:
                found = os.stat(path)
                stamp: Optional[Tuple[int, ...]] = (found.st_mtime_ns, found.st_size, found.st_ino)
            except OSError:
                stamp = None
            if path not in self.configs or self.configs[path][0] != stamp:
                if stamp is None:
                    continue
                try:
                    with open(path, "rb") as file:
                        self.configs[path] = (stamp, essence(json.loads(readable(file.read()).rstrip("\0"))))
                except (OSError, ValueError, AttributeError) as error:
                    notes.append("domain %d: its configuration cannot be read (%s)" % (domid, error))
                    continue
            known[domid] = self.configs[path]
        paths = {domid: USERDATA % (domid, uuid) for domid, uuid in ids}
        missing = [domid for domid in paths if domid not in known]
        if missing:
            listed = self.listed(notes)
            for domid in missing:
                known[domid] = (None, essence(listed.get(domid, {})))
        # what is gone is forgotten, what is there is remembered
        self.configs = {paths[domid]: entry for domid, entry in known.items()}
        return {domid: entry[1] for domid, entry in known.items()}

    def listed(self, notes: List[str]) -> Dict[int, Dict[str, Any]]:
        """Domain id to configuration, as `xl list -l` knows it."""
        try:
            listed = json.loads(self.xl.ask(["list", "-l"])[0] or "[]")
            return {entry["domid"]: entry.get("config") or {} for entry in listed}
        except (Problem, ValueError, KeyError, TypeError) as error:
            notes.append("xl list -l: %s" % error)
            return {}
