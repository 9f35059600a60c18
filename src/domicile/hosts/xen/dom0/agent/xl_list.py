"""`xl list -v`, as far as it has to be understood here: which domains there are."""

import re
from typing import List

from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.row import Row

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
LIST_ROW = re.compile(
    r"(?P<name>.*\S)\s+(?P<id>\d+)\s+(?P<mib>\d+)\s+\d+\s+(?P<state>[-rbp][-rbp][-rbp][-s][-rscwS?][-d])\s+[\d.]+\s+"
    r"(?P<uuid>" + UUID + r")\b"
)


def parse_rows(text: str) -> List[Row]:
    """The domains in `xl list -v`."""
    rows = []
    for line in text.split("\n")[1:]:
        match = LIST_ROW.match(line)
        if match:
            name, uuid, state = match.group("name", "uuid", "state")
            rows.append(Row(int(match.group("id")), name, uuid, state, int(match.group("mib")) << 10))
        elif line.strip():
            raise Problem("failed", "xl list printed a line that makes no sense: %r" % line)
    return rows


def only_one(found: List[Row], name: str) -> Row:
    """The domain, if exactly one is called so."""
    if not found:
        raise Problem("refused", "there is no domain called %s" % name)
    if len(found) > 1:
        raise Problem("refused", "%d domains are called %s" % (len(found), name))
    return found[0]
