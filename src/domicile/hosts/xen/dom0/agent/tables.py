"""The tables of a snapshot: what `xl` prints, or would."""

import re
import time
from typing import Any, Dict, List, Tuple

from domicile.hosts.xen.dom0.agent.shelf import Shelf
from domicile.hosts.xen.dom0.agent.xen import Xen
from domicile.hosts.xen.dom0.files import read_text, write


class Tables:
    """Gets tables by the best way that there is."""

    def __init__(self, xen: Xen, shelf: Shelf) -> None:
        self.xen = xen
        self.shelf = shelf

    def read(self, notes: List[str]) -> Dict[str, Any]:
        """All tables, the nodes' free memory last."""
        if self.xen.direct is not None:
            try:
                tables = self.xen.direct.tables(self.claims)
                tables["info"] = self.info(sum(tables.pop("claimed").values()))
            except Exception as error:  # whatever it is, xl knows better
                self.xen.direct = None
                self.xen.problem = str(error)
            else:
                return tables
        if self.xen.problem:
            notes.append("asked by way of xl: " + self.xen.problem)
        domains, vcpus, cpupools = self.xen.xl.ask(["list", "-v", "-c", "-n"], ["vcpu-list"], ["cpupool-list", "-c"])
        tables = {"domains": domains, "vcpus": vcpus, "cpupools": cpupools, "taken_at": time.time()}
        tables["measured"] = self.measure(notes)
        tables["info"] = self.xen.xl.ask(["info", "-n"])[0]
        if re.search(r"^outstanding_claims\s*: *[1-9]", tables["info"], re.MULTILINE):
            tables["claims"] = self.xen.xl.ask(["claims"])[0]
            tables["info"] = self.xen.xl.ask(["info", "-n"])[0]
        if len(cpupools.split("\n")) > 3:
            tables["schedulers"] = self.xen.xl.ask(["cpupool-list"])[0]
        return tables

    def claims(self) -> Tuple[str, Dict[int, int]]:
        """`xl claims`, and domain id to MiB claimed and not taken out of it."""
        found = {}
        text = self.xen.xl.ask(["claims"])[0]
        for line in text.split("\n")[1:]:
            match = re.match(r".*\S +(\d+) +\d+ +\d+ +\S{6} +[\d.]+ +(\d+)\Z", line)
            if match:
                found[int(match.group(1))] = int(match.group(2))
        return text, found

    def info(self, claimed_mib: int) -> str:
        """`xl info -n`. Only free memory changes: the rest is kept on file until the next boot or change."""
        assert self.xen.direct is not None  # noqa: S101
        path, machine = self.shelf.path("info"), self.xen.direct.machine()
        kept, _, text = read_text(path).partition("\n")
        if kept != machine:
            text = self.xen.xl.ask(["info", "-n"])[0]
            write(path, machine + "\n" + text)
        return self.xen.direct.refreshed(text, claimed_mib)

    def measure(self, notes: List[str]) -> Dict[str, Any]:
        """The idle times of pCPUs, where there is a binding but no libxenctrl to go with it."""
        if self.xen.xc is None:
            return {}
        try:
            return {"pcpu_idle_ns": [cpu["idletime"] for cpu in self.xen.xc.getcpuinfo(4096)]}
        except Exception as error:  # a snapshot without these figures is better than none
            notes.append("xen.lowlevel.xc gives no times: %s" % error)
            return {}
