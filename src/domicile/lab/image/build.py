"""Builds the image: Debian's packages by mmdebstrap, our files, an ext4 disk made without mounting anything.

Works as root and, with user namespaces and `newuidmap`, as an ordinary user. The packages come from where mmdebstrap
finds them by itself (deb.debian.org through the host's apt configuration), or from `DOMICILE_LAB_MIRROR`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec

from domicile.errors import HostFailed
from domicile.lab.cache import require_space
from domicile.lab.guests import GUESTS_FOLDER
from domicile.lab.guests import build as build_guests
from domicile.lab.guests.kernel import unpacked_kernel
from domicile.lab.image import recipe
from domicile.lab.image.boot import initramfs, unpacked_xen
from domicile.lab.image.files import extra_files, place, shipped
from domicile.lab.processes import dying_with_us
from domicile.lab.programs import BUILDING, RUNNING, command_output, require
from domicile.lab.progress import Report

__all__ = ["build_image"]

FETCHED = 0.25
"""Shares of the whole build at the end of each step, as measured on two cores."""
INSTALLED = 0.75
PLACED = 0.80
DISK_MADE = 0.85


class ImageFacts(msgspec.Struct):
    """`image.json`: what was built."""

    packages: dict[str, str]
    kernel: str


def build_image(into: Path, report: Report) -> None:
    """Build the image in the folder `into`: `disk.qcow2`, `xen`, `vmlinux`, `initrd.img`, the keys and `image.json`.

    Raises `HostFailed` when a program or space is missing or a step fails.
    """
    needed = [*RUNNING, *BUILDING]
    if os.geteuid() != 0:
        needed.append("newuidmap")
    programs = require(needed)
    _require_space(into)

    _make_keys(into, programs["ssh-keygen"])
    tree = into / "tree"
    tree.mkdir()
    _install_packages(tree, into, programs, report)

    report("putting the lab's files into Dom0", INSTALLED)
    kernel = _only(tree / "boot", "vmlinuz-*")
    modules = _only(tree / "usr/lib/modules", "*")
    place(tree, extra_files(into))
    for name in ("init", "reboot", "poweroff"):
        (tree / "usr/sbin" / name).unlink(missing_ok=True)
        (tree / "usr/sbin" / name).symlink_to("../bin/busybox")
    guests = tree / GUESTS_FOLDER.lstrip("/")
    build_guests(guests, kernel)
    (into / "initrd.img").write_bytes(initramfs(tree, modules, shipped("initramfs-init")))
    (into / "vmlinux").write_bytes(unpacked_kernel(kernel.read_bytes()))
    (into / "xen").write_bytes(unpacked_xen(_only(tree / "boot", f"xen-{recipe.XEN_VERSION}-amd64.gz").read_bytes()))
    facts = ImageFacts(_package_versions(tree), modules.name)
    (into / "image.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts)))

    report("making Dom0's disk", PLACED)
    _make_disk(tree, into, programs, report)
    report("done", 1.0)


def _require_space(into: Path) -> None:
    require_space(into, recipe.NEED_BUILD_MIB, what="building the lab's image", instead="DOMICILE_LAB_CACHE")
    if os.geteuid() != 0:
        temporary = Path(tempfile.gettempdir())
        require_space(temporary, recipe.NEED_TEMPORARY_MIB, what="unpacking Debian's packages", instead="TMPDIR")


def _make_keys(into: Path, ssh_keygen: str) -> None:
    """The host's key and the user's: made for this image, and good for nothing else."""
    for name in ("host_key", "user_key"):
        argv = [ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-C", f"domicile lab {name}", "-f", str(into / name)]
        command_output(argv, what="making the lab's SSH keys")
    host_key = " ".join((into / "host_key.pub").read_text().split()[:2])
    (into / "known_hosts").write_text(f"lab {host_key}\n")


def _install_packages(tree: Path, into: Path, programs: dict[str, str], report: Report) -> None:
    """Let mmdebstrap install the packages and unpack what it made into `tree`, all of it owned by whoever we are."""
    temporary = into / "temporary"
    temporary.mkdir()
    environment = dict(os.environ)
    if os.geteuid() == 0:
        # in a user namespace it needs a folder that its other ids can enter, which a home folder often is not
        environment["TMPDIR"] = str(temporary)
    mmdebstrap = _mmdebstrap(programs["mmdebstrap"])
    tar = [programs["tar"], "-x", "-p", "--no-same-owner", "--exclude=./dev/*", "-C", str(tree)]
    archive_out, archive_in = os.pipe()
    with (
        tempfile.TemporaryFile() as tar_said,
        _process(tar, stdin=archive_out, stdout=tar_said, stderr=tar_said) as unpacker,
    ):
        os.close(archive_out)
        with _process(mmdebstrap, stdout=archive_in, stderr=subprocess.PIPE, env=environment) as maker:
            os.close(archive_in)
            last = _follow(_lines(maker.stderr), report)
        if maker.returncode:
            raise HostFailed(f"building the lab's image: mmdebstrap failed: {last}")
        if unpacker.wait():
            tar_said.seek(0)
            said = tar_said.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise HostFailed(f"building the lab's image: tar failed: {said[-1]}")
    shutil.rmtree(temporary)


def _mmdebstrap(program: str) -> list[str]:
    mirror = os.environ.get("DOMICILE_LAB_MIRROR")
    return [
        program,
        "--verbose",
        "--variant=essential",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--format=tar",
        f"--include={','.join(recipe.PACKAGES)}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt={option}" for option in recipe.DPKG_OPTIONS),
        recipe.SUITE,
        "-",
        *([mirror] if mirror else []),
    ]


@contextlib.contextmanager
def _process(
    argv: list[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a group of its own that has ended when we leave: by itself, or made to if we leave early."""
    child = subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        start_new_session=True,
        preexec_fn=dying_with_us(signal.SIGTERM),  # noqa: PLW1509 (a build is not run beside other threads)
    )
    with child:
        try:
            yield child
            child.wait()
        except BaseException:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
            raise


def _lines(stream: IO[bytes] | None) -> Iterator[str]:
    for line in stream or ():
        yield line.decode(errors="replace").rstrip()


def _follow(lines: Iterator[str], report: Report) -> str:
    """Turn apt's and dpkg's lines into progress; returns the last error line, or the last line."""
    counts = {"Get:": 0, "Unpacking": 0, "Setting up": 0}
    error, last = "", ""
    for line in lines:
        if not line.strip():
            continue
        last = line
        if line.startswith("E: "):
            error = error or line
        for start in counts:
            if line.startswith(start):
                counts[start] += 1
                report(*_stage(counts))
    return error or last


def _stage(counts: dict[str, int]) -> tuple[str, float]:
    """What is being done and how far it is, from the numbers of lines seen."""
    whole = recipe.PACKAGE_COUNT
    got = min(counts["Get:"] / whole, 1.0)
    unpacked = min(counts["Unpacking"] / whole, 1.0)
    set_up = min(counts["Setting up"] / whole, 1.0)
    doing = "fetching packages" if not counts["Unpacking"] else "installing packages"
    return doing, FETCHED * got + (INSTALLED - FETCHED) * (unpacked + set_up) / 2


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise HostFailed(f"building the lab's image: {len(found)} files {pattern} in /{folder.name}, not 1")
    return found[0]


def _package_versions(tree: Path) -> dict[str, str]:
    """Package to version of all that is installed, out of dpkg's status file."""
    versions: dict[str, str] = {}
    package = ""
    for line in (tree / "var/lib/dpkg/status").read_text(errors="replace").splitlines():
        if line.startswith("Package: "):
            package = line.removeprefix("Package: ")
        elif line.startswith("Version: "):
            versions[package] = line.removeprefix("Version: ")
    return versions


def _make_disk(tree: Path, into: Path, programs: dict[str, str], report: Report) -> None:
    """An ext4 file system filled from the tree, as a packed qcow2. Whoever we are, its files belong to root."""
    raw = into / "disk.raw"
    as_root = [] if os.geteuid() == 0 else [programs["unshare"], "--map-root-user"]
    make = ["-q", "-F", "-t", "ext4", "-L", "dom0", "-m", "0", "-J", "size=8", "-d", str(tree), str(raw)]
    command_output([*as_root, programs["mke2fs"], *make, f"{recipe.DISK_MIB}M"], what="making Dom0's disk")
    shutil.rmtree(tree)
    report("packing Dom0's disk", DISK_MADE)
    convert = ["convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", str(raw), str(into / "disk.qcow2")]
    command_output([programs["qemu-img"], *convert], what="packing Dom0's disk")
    raw.unlink()
