"""From a host URI to a `Host`."""

from __future__ import annotations

from urllib.parse import urlsplit

from domicile.errors import BadInput
from domicile.hosts.protocol import Host

__all__ = ["open_host"]

FORMS = "xen:///, xen+ssh://[user@]host[:port]/, lab:///NAME or sim:///NAME"


def open_host(uri: str) -> Host:
    """Open the host that a URI names. Raises `BadInput` for a URI of no known form, `HostFailed` if it cannot be."""
    try:
        scheme = urlsplit(uri).scheme
    except ValueError as error:
        raise BadInput(uri, f"not a host URI ({error}); give {FORMS}") from error
    raise BadInput(uri, f"no kind of host is called {scheme!r}; give {FORMS}")
