"""Bridges and disks through Dom0; the specifications are those of Xen's manual pages."""

from __future__ import annotations

import pytest

from domicile.xlcfg.backends import dom0_backends
from domicile.xlcfg.syntax import parse


def backends(text: str) -> tuple[str, ...]:
    return dom0_backends(parse(text, "web.cfg"))


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("/dev/vg/guest-volume,,hda", "/dev/vg/guest-volume"),
        ("/dev/vg/guest-volume,raw,hda,rw", "/dev/vg/guest-volume"),
        ("format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume", "/dev/vg/guest-volume"),
        ("raw:/dev/vg/guest-volume,hda,w", "/dev/vg/guest-volume"),
        ("phy:/dev/sdb,xvda,w", "/dev/sdb"),
        ("tap:aio:/root/image,xvda,w", "/root/image"),
        ("vdev=xvda,target=/root/with,comma", "/root/with,comma"),
        (",,hdc,cdrom", ""),
        ("format=raw, vdev=xvda, backend=storage, target=/dev/vg/lv", ""),
    ],
)
def test_disks(spec: str, path: str) -> None:
    assert backends(f'disk = ["{spec}"]') == ((path,) if path else ())


@pytest.mark.parametrize(
    ("spec", "bridge"),
    [
        ("", "xenbr0"),
        ("mac=00:16:3e:00:00:01", "xenbr0"),
        ("mac=00:16:3e:00:00:01,bridge=storage,model=e1000", "storage"),
        ("bridge=br1,backend=netvm", ""),
        ("bridge=br1,backend=Domain-0", "br1"),
    ],
)
def test_interfaces(spec: str, bridge: str) -> None:
    assert backends(f'vif = ["{spec}"]') == ((bridge,) if bridge else ())


def test_each_once_and_neither_where_there_is_none() -> None:
    assert backends('vif = ["", "mac=00:16:3e:00:00:01"]\ndisk = ["/dev/sda,,xvda", "/dev/sda,,xvdb"]') == (
        "xenbr0",
        "/dev/sda",
    )
    assert backends("vif = []\nname = 'web'") == ()
