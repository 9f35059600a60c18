"""`xl claims`: memory that is claimed for a domain and not taken by it yet.

Source: main_claims and list_domains in tools/xl/xl_info.c (Xen 4.3 to 4.22). Names may hold spaces, so rows are read
from the right.
"""

from __future__ import annotations

import re

from domicile.hosts.xen.tables import matches

__all__ = ["parse_claims_table"]

COMMAND = "xl claims"

ROW = re.compile(
    r"(?P<name>.*\S) +(?P<id>\d{1,5}) +(?P<memory>\d{1,12}) +(?P<vcpus>\d{1,5}) +"
    r"(?P<state>[-r][-b][-p][-s][-rscwS?][-d]) +(?P<time>\d+\.\d) +(?P<claimed>\d{1,12})",
    re.ASCII,
)


def parse_claims_table(text: str) -> dict[int, int]:
    """Domain id to MiB claimed and not taken, domains without left out. Raises `HostFailed` for a garbled table."""
    claimed = {int(match["id"]): int(match["claimed"]) for _, match in matches(text, ROW, COMMAND)}
    return {domain: mib for domain, mib in claimed.items() if mib}
