"""Xen, by the best way to it that there is: libxenctrl and the bindings where they are understood, else `xl`."""

import re
from typing import Any, List, Optional, Tuple

from domicile.hosts.xen.dom0.agent.direct import Direct
from domicile.hosts.xen.dom0.agent.id_sets import set_text
from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.xl import Xl
from domicile.hosts.xen.dom0.agent.xl_list import parse_rows
from domicile.hosts.xen.dom0.bindings import connect_xc, find_bindings
from domicile.hosts.xen.dom0.row import Row


class Xen:
    """The ways to Xen: `xc` and `direct` are None where there is no such way, and `problem` says why."""

    def __init__(self, xl: Xl) -> None:
        self.xl = xl
        self.xc, self.problem = open_xc()
        self.direct: Optional[Direct] = None
        if self.xc is not None:
            try:
                self.direct = Direct(self.xc)
            except Exception as error:  # a library that is not there, or another version: xl does it all
                self.problem = str(error)

    def rows(self) -> List[Row]:
        """The domains."""
        if self.direct is not None:
            return self.direct.rows()
        return parse_rows(self.xl.ask(["list", "-v"])[0])

    def pin(self, domid: int, vcpu: int, hard: str, soft: str) -> None:
        """Set affinity; "-" leaves that kind as it is."""
        if self.direct is not None:
            self.direct.pin(domid, vcpu, hard, soft)
        else:
            self.xl.ask(["vcpu-pin", str(domid), str(vcpu), hard, soft], strict=True)

    def hard_affinity(self, domid: int, vcpu: int) -> str:
        """The hard affinity as a list of pCPUs."""
        if self.direct is not None:
            return set_text(self.direct.vcpu(domid, vcpu)[1], self.direct.cpus())
        for line in self.xl.ask(["vcpu-list", str(domid)])[0].split("\n")[1:]:
            match = re.match(r".* %d +(\d+) +\S+ +\S+ +[\d.]+ +(\S+) / " % domid, line)
            if match and int(match.group(1)) == vcpu:
                return match.group(2)
        raise Problem("refused", "domain %d has no vCPU %d" % (domid, vcpu))

    def destroy_row(self, row: Row) -> None:
        """Destroy a domain; that it went away by itself meanwhile is no failure."""
        if row.id == 0:
            raise Problem("refused", "Dom0 is not destroyed")
        try:
            self.xl.ask(["destroy", str(row.id)])
        except Problem:
            if any(left.id == row.id and not left.dying for left in self.rows()):
                raise


def open_xc() -> Tuple[Any, str]:
    """`xen.lowlevel.xc`'s connection to Xen, or None and why not."""
    find_bindings()
    try:
        return connect_xc(), ""
    except Exception as error:  # a binding may fail in ways of its own, and all of it can be done without
        return None, "no xen.lowlevel.xc (%s)" % error
