"""What guests do, from their kernel's command line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_machines import config, machine, read_guest

from domicile.errors import BadInput
from domicile.hosts.simulated.workload import asked_workload

GUEST = read_guest(config("web1", vcpus=4), "web1.cfg", machine())


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ("", ("busy", None)),
        ("quiet root=/dev/xvda console=hvc0", ("busy", None)),
        ("busy=2 touch_mib=40 pattern=1", ("busy", 2)),
        ("busy=0", ("busy", 0)),
        ("busy=9", ("busy", 4)),
        ("quiet workload=key-value", ("key-value", None)),
        ("workload=web busy=1 workload=stream", ("stream", 1)),
    ],
)
def test_words_of_the_command_line(arguments: str, asked: tuple[str, int | None]) -> None:
    assert asked_workload(replace(GUEST, kernel_arguments=arguments)) == asked


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("workload=nosuch", r"web1.cfg: .*workload=nosuch is none of busy, database, .*web$"),
        ("workload=", "workload= is none of"),
        ("busy=two", "busy=two is no number of vCPUs"),
        ("busy=-1", "busy=-1 is no number of vCPUs"),
        ("busy=1.5", "busy=1.5 is no number of vCPUs"),
    ],
)
def test_bad_words(arguments: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        asked_workload(replace(GUEST, kernel_arguments=arguments))
