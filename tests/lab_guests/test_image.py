"""The guests' initramfs, built with whatever stands in for busybox; the real one boots in tests/lab."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from kernels import bzimage

from domicile.errors import BadInput, HostFailed
from domicile.lab.guests.compiler import compile_c
from domicile.lab.guests.image import COMPILE_OPTIONS, build, initramfs


@pytest.fixture(name="program", scope="module")
def guest_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guests' own program, compiled: a static one, and so good enough to stand in for busybox."""
    program = tmp_path_factory.mktemp("guest") / "domicile-guest"
    compile_c(Path(str(files("domicile.lab.guests") / "guest.c")), program, COMPILE_OPTIONS)
    return program


@pytest.mark.usefixtures("compiler")
def test_the_same_input_gives_the_same_bytes(program: Path) -> None:
    first = initramfs(program)
    assert initramfs(program) == first
    assert b"domicile-guest: " in first


@pytest.mark.usefixtures("compiler")
def test_build_puts_kernel_and_initramfs_where_told(tmp_path: Path, program: Path) -> None:
    kernel = tmp_path / "vmlinuz-6.1"
    kernel.write_bytes(bzimage(lzma.compress(b"\x7fELF") + bytes(4)))
    into = tmp_path / "var/lib/domicile/guests"
    build(into, kernel, busybox=program)
    assert (into / "vmlinuz").read_bytes() == kernel.read_bytes()
    assert (into / "vmlinux").read_bytes() == b"\x7fELF"
    assert (into / "initrd.cpio").read_bytes() == initramfs(program)


@pytest.mark.usefixtures("compiler")
def test_the_busybox_of_the_kernel_s_tree_is_taken(tmp_path: Path, program: Path) -> None:
    kernel = tmp_path / "tree/boot/vmlinuz-6.1"
    busybox = tmp_path / "tree/usr/bin/busybox"
    for file, content in ((kernel, bzimage(lzma.compress(b"\x7fELF") + bytes(4))), (busybox, program.read_bytes())):
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    build(tmp_path / "guests", kernel)
    assert (tmp_path / "guests/initrd.cpio").read_bytes() == initramfs(busybox)


def test_what_is_no_kernel_is_refused(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"MZ")
    with pytest.raises(HostFailed, match="no bzImage"):
        build(tmp_path / "guests", kernel)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02" + b"\0" * 200])
def test_what_is_no_static_program_is_refused(tmp_path: Path, content: bytes) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(content)
    with pytest.raises(BadInput, match="busybox-static"):
        initramfs(busybox)


def test_a_dynamic_busybox_is_refused() -> None:
    dynamic = Path(shutil.which("env") or "/usr/bin/env")
    with pytest.raises(BadInput, match="busybox-static"):
        initramfs(dynamic)


def test_the_init_script_is_one(tmp_path: Path) -> None:
    script = files("domicile.lab.guests") / "init.sh"
    subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.usefixtures("compiler")
def test_the_program_checks_its_arguments(program: Path) -> None:
    for arguments in (
        [],
        ["load"],
        ["load", "x", "1", "0", "0", "/dev/null"],
        ["load", "9999", "1", "0", "0", "/dev/null"],
        ["read"],
    ):
        assert subprocess.run([program, *arguments], check=False).returncode == 2


@pytest.mark.usefixtures("compiler")
def test_the_load_goes_over_its_memory_again_and_again(tmp_path: Path, program: Path) -> None:
    sweeps = tmp_path / "sweeps"
    for verify in ("0", "1"):
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run([program, "load", "0", "1", verify, "0", sweeps], timeout=0.3, check=False)
        assert int(sweeps.read_text()) > 1


@pytest.mark.usefixtures("compiler")
def test_the_load_rests_between_two_times(tmp_path: Path, program: Path) -> None:
    sweeps = tmp_path / "sweeps"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([program, "load", "0", "1", "1", "400", sweeps], timeout=1.0, check=False)
    assert 1 <= int(sweeps.read_text()) <= 3


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(HostFailed, match=r"no C compiler here.*apt-get install gcc"):
        compile_c(tmp_path / "x.c", tmp_path / "x", [])


@pytest.mark.usefixtures("compiler")
def test_what_does_not_compile_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(HostFailed, match=r"cannot compile broken\.c: .*error.*nothing"):
        compile_c(source, tmp_path / "out/broken", [])
    assert not list((tmp_path / "out").iterdir())
