"""What the image is made of: the modules of the initramfs, the files placed into Dom0."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from domicile.errors import HostFailed
from domicile.lab.image import extra_files
from domicile.lab.image.boot import modules_in_order
from domicile.lab.image.files import Dom0File, place, recipe_digest

MODULES_DEP = """\
kernel/a.ko: kernel/b.ko kernel/c.ko
kernel/b.ko: kernel/c.ko
kernel/c.ko:
kernel/virtio-rng.ko: kernel/c.ko
"""


def test_modules_come_after_what_they_depend_on() -> None:
    assert modules_in_order(MODULES_DEP, ("a",)) == ["kernel/c.ko", "kernel/b.ko", "kernel/a.ko"]
    assert modules_in_order(MODULES_DEP, ("virtio_rng", "b")) == ["kernel/c.ko", "kernel/virtio-rng.ko", "kernel/b.ko"]
    with pytest.raises(HostFailed, match="no module d,"):
        modules_in_order(MODULES_DEP, ("d",))


def test_files_are_placed_with_their_modes_and_never_outside(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    outside.write_text("mine")
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/secret").symlink_to(outside)
    place(tree, {"/etc/secret": Dom0File(b"new", 0o600), "/var/lib/deep": Dom0File(outside)})
    assert outside.read_text() == "mine"
    assert (tree / "etc/secret").read_bytes() == b"new"
    assert (tree / "etc/secret").stat().st_mode & 0o777 == 0o600
    assert (tree / "var/lib/deep").read_text() == "mine"


def test_dom0_gets_its_keys_and_comes_up_by_our_script(tmp_path: Path) -> None:
    wanted = extra_files(tmp_path)
    assert wanted["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert wanted["/etc/domicile/boot"].mode == 0o755
    for path in ("/etc/domicile/boot", "/etc/domicile/shutdown"):
        script = wanted[path].content
        assert isinstance(script, bytes)
        subprocess.run(["sh", "-n"], input=script, check=True)


def test_the_key_is_stable() -> None:
    assert recipe_digest() == recipe_digest()
    assert len(recipe_digest()) == 16
