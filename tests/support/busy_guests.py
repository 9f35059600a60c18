"""Commands run on a simulated host, in this process, and guests created there."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from domicile.cli.main import main

__all__ = ["GUEST", "create", "domicile"]

GUEST = """name = "{name}"
type = "pvh"
kernel = "/boot/vmlinuz"
vcpus = 2
memory = 256
extra = "quiet {does}"
"""
"""A configuration: its name, and what it does, on its kernel's command line."""


def domicile(*arguments: str) -> str:
    """What a command prints, which has to succeed."""
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def create(folder: Path, uri: str, **guests: str) -> None:
    """Create guests of 2 vCPUs and 256 MiB, by name; what each does is said on its kernel's command line."""
    for name, does in guests.items():
        (folder / f"{name}.cfg").write_text(GUEST.format(name=name, does=does))
    domicile("create", "-c", uri, "--json", *[str(folder / f"{name}.cfg") for name in guests])
