"""What `xl` prints, down to the lines that tell why. The texts are a real xl's, 4.17."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.hosts.xen.xl_errors import telling_lines

OUT_OF_MEMORY = """\
Parsing config from /root/g.cfg
xc: error: panic: xg_dom_boot.c:119: xc_dom_boot_mem_init: can't allocate low memory for domain: Out of memory
libxl: error: libxl_dom.c:585:libxl__build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory
libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain 4:cannot (re-)build domain: -3
libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 4:Non-existant domain
libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 4:Unable to destroy guest
libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain 4:Destruction of domain failed
"""
SYNTAX = """\
/run/domicile/building/658749fd-1061-4d35-93b4-aa55366560ad.cfg:10: config parsing error near `uuid': syntax error
Failed to parse config: Invalid argument
"""


def test_memory() -> None:
    assert telling_lines(OUT_OF_MEMORY) == (
        "panic: xg_dom_boot.c:119: xc_dom_boot_mem_init: can't allocate low memory for domain: Out of memory; "
        "xc_dom_boot_mem_init failed: Cannot allocate memory"
    )


def test_the_file_that_only_the_agent_knows_is_not_named() -> None:
    assert telling_lines(SYNTAX).startswith("configuration:10: config parsing error near `uuid'")


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("", ""),
        ("one\ntwo\nthree\nfour\n", "two; three; four"),
        ("libxl: error: a.c:1:b: Domain 4:Non-existant domain", "Domain 4:Non-existant domain"),
        ("libxl: info: a.c:1:b: fine\nxl: it is odd", "xl: it is odd"),
        ("9 is an invalid domain identifier (rc=-6)", "9 is an invalid domain identifier (rc=-6)"),
    ],
)
def test_others(output: str, told: str) -> None:
    found = telling_lines(output)
    assert found.endswith(told)
    assert bool(found) == bool(told)


@given(st.text())
def test_always_one_line(text: str) -> None:
    assert "\n" not in telling_lines(text)
