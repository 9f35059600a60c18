"""Call the C compiler: the tiny guests and the measuring plug-in are small C programs that ship as source."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from domicile.errors import HostFailed

__all__ = ["compile_c"]


def compile_c(source: Path, output: Path, options: Sequence[str]) -> None:
    """Compile one C file to `output`, which appears whole or not at all.

    Takes `$CC`, else `cc`, else `gcc`. Raises `HostFailed` when there is no compiler or it does not accept the source;
    the compiler's first error is in the message.
    """
    compiler = next(
        (found for name in (os.environ.get("CC"), "cc", "gcc") if name and (found := shutil.which(name))), None
    )
    if compiler is None:
        raise HostFailed("no C compiler here, and the lab needs one: apt-get install gcc libc6-dev")
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        done = subprocess.run(
            [compiler, *options, "-o", os.fspath(unfinished), os.fspath(source)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            lines = done.stderr.splitlines()
            first = next((line for line in lines if "error" in line), lines[0] if lines else "no reason given")
            raise HostFailed(f"{compiler} cannot compile {source.name}: {first}")
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
