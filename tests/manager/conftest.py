"""What the manager's tests share: the journal of the host that a test has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from domicile.hosts.protocol import Host
from domicile.manager.journal import Journal


@pytest.fixture
def journal(host: Host) -> Iterator[Journal]:
    """Its journal, in the state folder that the host's fixture chose."""
    with Journal.for_host(host.snapshot().host_id) as opened:
        yield opened
