"""From a host URI to a `Host`."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any
from urllib.parse import unquote

from domicile.errors import BadInput
from domicile.hosts.protocol import Host
from domicile.state.request import GuestRequest
from domicile.topology.model import Topology

__all__ = ["open_host"]

FORMS = "xen:///, xen+ssh://[user@]host[:port]/, lab:///NAME or sim:///NAME"


def open_host(uri: str) -> Host:
    """Open the host that a URI names. Raises `BadInput` for a URI of no known form, `HostFailed` if it cannot be."""
    openers = {"xen": _open_local, "xen+ssh": _open_ssh, "lab": _open_lab, "sim": _open_simulated}
    scheme, colon, _ = uri.partition(":")
    if any(not char.isprintable() for char in uri):
        raise BadInput(repr(uri), f"no host URI holds such characters; give {FORMS}")
    if not colon or scheme not in openers:
        raise BadInput(uri, f"no kind of host is called {scheme!r}; give {FORMS}")
    return openers[scheme](uri)


def _open_local(uri: str) -> Host:
    """This Dom0."""
    from domicile.hosts.xen.address import require_local_uri  # noqa: PLC0415
    from domicile.hosts.xen.host import open_xen  # noqa: PLC0415
    from domicile.hosts.xen.transport import LocalTransport  # noqa: PLC0415

    require_local_uri(uri)
    return open_xen(uri, LocalTransport())


def _open_ssh(uri: str) -> Host:
    """A Dom0 over SSH."""
    from domicile.hosts.xen.address import parse_ssh_uri  # noqa: PLC0415
    from domicile.hosts.xen.host import open_xen  # noqa: PLC0415
    from domicile.hosts.xen.transport import SshTransport, ssh_argv  # noqa: PLC0415

    address = parse_ssh_uri(uri)
    return open_xen(uri, SshTransport(address.shown, ssh_argv(address)))


def _open_lab(uri: str) -> Host:
    """The Dom0 of a running lab."""
    from domicile.hosts.xen.host import open_xen  # noqa: PLC0415
    from domicile.hosts.xen.transport import SshTransport  # noqa: PLC0415

    name = _name_in(uri)
    # by name: hosts know nothing of the lab, which is a way to one of them
    lab: Any = importlib.import_module("domicile.lab")
    return open_xen(uri, SshTransport(f"lab {name}", tuple(lab.Lab.find(name).ssh_argv())))


def _open_simulated(uri: str) -> Host:
    """A simulated host: one of the machines that come with domicile, or one that was made."""
    from domicile.hosts.simulated import open_simulated  # noqa: PLC0415
    from domicile.topology.presets import load_preset, preset_names  # noqa: PLC0415
    from domicile.xlcfg.guest import read_as_started  # noqa: PLC0415
    from domicile.xlcfg.syntax import parse  # noqa: PLC0415

    _name_in(uri.partition("?")[0])

    def topology_of(name: str) -> Topology:
        return load_preset(name).topology

    def request_of(config: str, source: str, topology: Topology) -> GuestRequest:
        return read_as_started(parse(config, source), topology)

    presets = {name: partial(topology_of, name) for name in preset_names()}
    return open_simulated(uri, presets=presets, read_guest=request_of)


def _name_in(uri: str) -> str:
    """The NAME in `scheme:///NAME`."""
    scheme, _, rest = uri.partition(":")
    name = unquote(rest.removeprefix("///"))
    if not rest.startswith("///") or not name or "/" in name or name in (".", ".."):
        raise BadInput(uri, f"give it as {scheme}:///NAME")
    return name
