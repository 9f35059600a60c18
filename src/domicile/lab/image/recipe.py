"""The recipe: which packages, which files are left out, how large. What is named here decides the image's key."""

from __future__ import annotations

__all__ = [
    "DISK_MIB",
    "DPKG_OPTIONS",
    "INITRAMFS_MODULES",
    "KERNEL_MODULES",
    "NEED_BUILD_MIB",
    "NEED_TEMPORARY_MIB",
    "PACKAGES",
    "PACKAGE_COUNT",
    "SUITE",
    "XEN_VERSION",
]

SUITE = "bookworm"
XEN_VERSION = "4.17"

PACKAGES = (
    f"xen-hypervisor-{XEN_VERSION}-amd64",
    f"xen-utils-{XEN_VERSION}",
    "linux-image-amd64",
    # the kernel package wants an initramfs generator; ours is 60 lines and this one is the quickest to be ignored
    "tiny-initramfs",
    "openssh-server",
    "python3",
    # what libxl runs for an HVM guest, and its firmware
    "qemu-system-xen",
    "seabios",
    "busybox-static",
    "mount",
    "iproute2",
)

PACKAGE_COUNT = 165
"""How many packages that comes to with what they depend on: for the progress bar alone."""

DISK_MIB = 3072
"""Size of Dom0's disk as Dom0 sees it; on the outside it takes what is written."""

NEED_BUILD_MIB = 1400
"""Free space that a build takes at its peak in the cache folder, with room for a saved state."""

NEED_TEMPORARY_MIB = 900
"""Free space that mmdebstrap takes at its peak in the folder for temporary files."""

KERNEL_MODULES = (
    "drivers/virtio/*",
    "drivers/block/virtio_blk.ko",
    "drivers/block/loop.ko",
    "drivers/block/xen-blkfront.ko",
    "drivers/block/xen-blkback/*",
    "drivers/char/hw_random/virtio-rng.ko",
    "drivers/char/hw_random/rng-core.ko",
    "drivers/net/virtio_net.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/tun.ko",
    "drivers/net/xen-netfront.ko",
    "drivers/net/xen-netback/*",
    "drivers/net/ethernet/intel/e1000/*",
    "drivers/net/ethernet/intel/e1000e/*",
    "drivers/scsi/virtio_scsi.ko",
    "drivers/scsi/scsi_mod.ko",
    "drivers/scsi/scsi_common.ko",
    "drivers/xen/*",
    "net/core/failover.ko",
    "net/bridge/bridge.ko",
    "net/802/stp.ko",
    "net/llc/llc.ko",
    "fs/ext4/ext4.ko",
    "fs/jbd2/jbd2.ko",
    "fs/mbcache.ko",
    "lib/crc16.ko",
    "lib/libcrc32c.ko",
    "arch/x86/crypto/crc32c-intel.ko",
    "crypto/crc32c_generic.ko",
)
"""The kernel modules that are kept, as dpkg patterns below `kernel/` (a `*` matches slashes too)."""

INITRAMFS_MODULES = ("crc32c_generic", "virtio_pci", "virtio_blk", "ext4")
"""Modules that the initramfs loads, with what they depend on."""

_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/iso-codes/*",
    "/usr/share/xml/*",
    "/usr/share/perl/*/Unicode/Collate/*",
    "/usr/lib/x86_64-linux-gnu/perl/*/CORE/*",
    "/usr/lib/x86_64-linux-gnu/perl/*/auto/Encode/??/*",
    "/lib/udev/hwdb.d/*",
    "/usr/lib/udev/hwdb.d/*",
    # firmware of machines that are not PCs
    "/usr/share/qemu/openbios-*",
    "/usr/share/qemu/opensbi-*",
    "/usr/share/qemu/palcode-*",
    "/usr/share/qemu/s390-*",
    "/usr/share/qemu/skiboot*",
    "/usr/share/qemu/slof*",
    "/usr/share/qemu/hppa-*",
    "/usr/share/qemu/u-boot*",
    "/usr/share/qemu/*.dtb",
    "/boot/System.map-*",
    "/boot/*.efi",
    "/lib/modules/*/kernel/*",
    "/usr/lib/modules/*/kernel/*",
)

DPKG_OPTIONS = (
    "force-unsafe-io",
    *(f"path-exclude={pattern}" for pattern in _LEFT_OUT),
    *(f"path-include=/lib/modules/*/kernel/{pattern}" for pattern in KERNEL_MODULES),
    *(f"path-include=/usr/lib/modules/*/kernel/{pattern}" for pattern in KERNEL_MODULES),
)
