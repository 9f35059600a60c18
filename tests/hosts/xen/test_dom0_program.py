"""The program that is sent to a Dom0: all of it, always the same, and run there without anything else of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import domicile
from domicile.errors import HostFailed
from domicile.hosts.xen.dom0.program import PACKAGE, whole
from domicile.hosts.xen.dom0_program import dom0_program, dom0_sources

if TYPE_CHECKING:
    from tests.hosts.xen.conftest import FakeDom0

ROOT = Path(domicile.__file__).parent.parent
ALONE = [sys.executable, "-ISu"]
"""Python as a Dom0's is started: it finds nothing but the standard library."""


def test_every_module_is_in_it() -> None:
    there = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in (ROOT / PACKAGE).rglob("*.py")}
    sources = dom0_sources()
    assert there.keys() <= sources.keys()
    assert {path: sources[path] for path in there} == there
    around = {path: source for path, source in sources.items() if path not in there}
    assert around == dict.fromkeys(
        ["domicile/__init__.py", "domicile/hosts/__init__.py", "domicile/hosts/xen/__init__.py"], ""
    )


def test_it_is_always_the_same() -> None:
    sources = dom0_sources()
    assert whole(dict(reversed(sources.items()))).encode() == dom0_program()


def test_it_is_the_same_wherever_domicile_is_installed(tmp_path: Path) -> None:
    """Even from a zip file, where nothing is a file of its own."""
    with zipfile.ZipFile(tmp_path / "installed.zip", "w") as installed:
        for path in [*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "domicile/hosts/xen").glob("*.py")]:
            installed.write(path, path.relative_to(ROOT))
        for package in ("domicile", "domicile/hosts"):
            installed.write(ROOT / package / "__init__.py", f"{package}/__init__.py")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'installed.zip')!r});"
        "from domicile.hosts.xen import dom0_program;"
        "assert 'installed.zip' in dom0_program.__file__;"
        "sys.stdout.buffer.write(dom0_program.dom0_program())"
    )
    done = subprocess.run([*ALONE, "-c", script], capture_output=True, check=True)
    assert done.stdout == dom0_program()


def test_what_is_there_can_write_the_same_program_again(tmp_path: Path) -> None:
    """Which the agent does for movers: run with a name, the program shows what is in it."""
    sources = {
        **dom0_sources(),
        f"{PACKAGE}/agent/serve.py": "def main(program):\n    print(program, end='')\n",
    }
    program = whole(sources)
    (tmp_path / "program").write_text(program, "utf-8")
    done = subprocess.run([*ALONE, tmp_path / "program"], capture_output=True, check=True, encoding="utf-8")
    assert done.stdout == program


@pytest.mark.parametrize("module", sorted(path for path in dom0_sources() if path.startswith(PACKAGE)))
def test_every_module_can_be_imported_there(tmp_path: Path, module: str) -> None:
    name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    sources = {**dom0_sources(), f"{PACKAGE}/agent/serve.py": f"import {name}\ndef main(program):\n    pass\n"}
    (tmp_path / "program").write_text(whole(sources), "utf-8")
    subprocess.run([*ALONE, tmp_path / "program"], check=True)


def test_with_a_folder_it_is_its_mover(tmp_path: Path) -> None:
    """Here one that finds no bindings of Xen's: it must say so, and not be begun again for ever."""
    program, folder = tmp_path / "program", tmp_path / "tok-1"
    program.write_bytes(dom0_program())
    folder.mkdir()
    (folder / "order").write_text(json.dumps({"token": "tok-1"}))
    subprocess.run([*ALONE, program, folder], check=True)
    assert (folder / "mover").read_text().split()[0].isdigit()
    assert json.loads((folder / "result").read_text())["ended"] == "failed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program", "tok-1"]


def test_the_agent_needs_no_file(dom0: FakeDom0) -> None:
    with dom0.open() as host:
        assert host.snapshot().domains
        assert not [path for path in dom0.run.rglob("*") if path.is_file() and "program" in path.name]


def test_where_nothing_can_be_written_it_says_so(dom0: FakeDom0) -> None:
    """By way of the agent, which has to run in order to say it: root alone can write there."""
    dom0.run.write_text("in the way")
    with pytest.raises(HostFailed, match=r"File exists|Not a directory"):
        dom0.open()
    dom0.run.unlink()
    if os.geteuid() != 0:
        dom0.run.mkdir(mode=0o500)
        with pytest.raises(HostFailed, match="only root can do this in a Dom0"):
            dom0.open()


def test_without_xl_it_says_so_first(dom0: FakeDom0) -> None:
    dom0.run.write_text("in the way")
    (dom0.bin / "xl").unlink()
    with pytest.raises(HostFailed, match="there is no xl"):
        dom0.open()
