"""The image of the current recipe, in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from domicile.lab.cache import cache_folder, ensure_folder, evict
from domicile.lab.image.build import build_image
from domicile.lab.image.files import recipe_digest
from domicile.lab.progress import Report, silent

__all__ = ["Image", "ensure", "find_image"]


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: a folder of the cache. `key` is the hash of its recipe."""

    key: str
    folder: Path

    @property
    def disk(self) -> Path:
        """Dom0's disk (qcow2), never written to."""
        return self.folder / "disk.qcow2"

    @property
    def xen(self) -> Path:
        """Xen, unpacked."""
        return self.folder / "xen"

    @property
    def kernel(self) -> Path:
        """Dom0's kernel, unpacked."""
        return self.folder / "vmlinux"

    @property
    def initramfs(self) -> Path:
        """Dom0's initramfs."""
        return self.folder / "initrd.img"

    @property
    def user_key(self) -> Path:
        """The private key that Dom0 lets in."""
        return self.folder / "user_key"

    @property
    def known_hosts(self) -> Path:
        """Dom0's host key under the name `lab`."""
        return self.folder / "known_hosts"


def _folder(key: str) -> Path:
    return cache_folder() / "images" / key


def find_image() -> Image | None:
    """The image of the current recipe, None if it is not built."""
    key = recipe_digest()
    return Image(key, _folder(key)) if _folder(key).is_dir() else None


def ensure(report: Report = silent) -> Image:
    """The image of the current recipe, built if it is not there. Raises `HostFailed` where it cannot be built."""
    key = recipe_digest()
    folder = ensure_folder(
        _folder(key),
        lambda partial: build_image(partial, report),
        waiting=lambda: report("waiting for another build of the image", 0.0),
    )
    evict({folder})
    return Image(key, folder)
