"""What the image is made of: the initramfs, the unpacked kernel, the files placed into Dom0."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import HostFailed
from domicile.lab.image import extra_files
from domicile.lab.image.boot import Entry, cpio, modules_in_order, unpacked_kernel
from domicile.lab.image.files import Dom0File, place, recipe_digest


def unpacked(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Name to mode and content, read as the kernel does (init/initramfs.c): header, name, padding, data, padding."""
    found: dict[str, tuple[int, bytes]] = {}
    place = 0
    while True:
        assert archive[place : place + 6] == b"070701"
        fields = [int(archive[place + 6 + 8 * i : place + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[place + 110 : place + 110 + name_size - 1].decode()
        data = -(-(place + 110 + name_size) // 4) * 4
        place = -(-(data + size) // 4) * 4
        if name == "TRAILER!!!":
            assert place == len(archive)
            return found
        found[name] = (mode, archive[data : data + size])


def test_cpio_reads_back_what_was_put_in() -> None:
    entries = [
        Entry("bin"),
        Entry("bin/tool", b"odd\0bytes!", 0o755),
        Entry("bin/name", b"tool", link=True),
        Entry("text", b"", 0o644),
    ]
    assert unpacked(cpio(entries)) == {
        "bin": (0o040755, b""),
        "bin/tool": (0o100755, b"odd\0bytes!"),
        "bin/name": (0o120755, b"tool"),
        "text": (0o100644, b""),
    }


@given(st.dictionaries(st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.binary(max_size=99), max_size=5))
def test_cpio_keeps_any_content(files: dict[str, bytes]) -> None:
    found = unpacked(cpio([Entry(name, data) for name, data in files.items()]))
    assert {name: data for name, (_, data) in found.items()} == files


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


def bzimage(payload: bytes, sectors: int = 3) -> bytes:
    head = bytearray((sectors + 1) * 512)
    head[0x1F1] = sectors
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 16, len(payload))
    return bytes(head) + bytes(16) + payload + b"after"


def test_kernels_are_unpacked() -> None:
    size = struct.pack("<I", 4)
    assert unpacked_kernel(bzimage(lzma.compress(b"\x7fELF") + size)) == b"\x7fELF"
    assert unpacked_kernel(bzimage(gzip.compress(b"\x7fELF") + size)) == b"\x7fELF"
    with pytest.raises(HostFailed, match="neither xz nor gzip"):
        unpacked_kernel(bzimage(b"\x04\x22"))
    with pytest.raises(HostFailed, match="no bzImage"):
        unpacked_kernel(bytes(2048))


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
