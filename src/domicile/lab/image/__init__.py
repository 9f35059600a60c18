"""The image: what a lab boots. A Dom0 of Debian's own packages on a disk, Xen, a kernel and an initramfs, and the keys.

`ensure()` gives the image of the current recipe, building it if there is none: once, under a lock, whole or not at all.
"""

from domicile.lab.image.build import build_image
from domicile.lab.image.files import extra_files
from domicile.lab.image.store import Image, ensure, find_image

__all__ = ["Image", "build_image", "ensure", "extra_files", "find_image"]
