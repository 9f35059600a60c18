"""What `xl` prints when something fails, down to the lines that tell a person why.

Source: XTL's and libxl's log format ("libxl: error: FILE:LINE:FUNCTION: Domain N:TEXT"), tools/libs/light/libxl_*.c.
"""

from __future__ import annotations

import re

__all__ = ["telling_lines"]

LIMIT = 3

MESSAGE = re.compile(r"(?:libxl|xc|xl|xencall|libxenlight): (?P<level>[a-z]+): (?:\S+?:\d+:\w+: )?(?P<text>.*)")

AFTERMATH = re.compile(
    r"Non-existant domain|Non-existent domain|Unable to destroy guest|Destruction of domain failed"
    r"|cannot \(re-\)build domain|domain creation failed|libxl__destroy_domid|unable to remove device"
    r"|^Parsing config from|Domain creation failed"
)
"""What follows from an error that another line has told already."""

OUR_FILE = re.compile(r"\S*/building/[0-9a-f-]{36}\.cfg")
"""Where the agent puts a configuration for `xl`: the user knows it by another name."""

USELESS = re.compile(r"^\s*$|^Parsing config from")


def telling_lines(output: str) -> str:
    """At most three lines, joined by "; ": the errors, without where in libxl's source they come from.

    Without a line marked as an error the last lines printed are taken.
    """
    lines = [OUR_FILE.sub("configuration", line.strip()) for line in output.split("\n") if not USELESS.match(line)]
    errors = []
    for line in lines:
        match = MESSAGE.fullmatch(line)
        if match is None:
            if re.search(r"error|fail|invalid|unknown|unable|must ", line, re.IGNORECASE):
                errors.append(line)
        elif match["level"] in ("error", "panic", "critical"):
            errors.append(match["text"])
    chosen = [line for line in errors if not AFTERMATH.search(line)] or errors or lines[-LIMIT:]
    return "; ".join(dict.fromkeys(chosen[:LIMIT]))
