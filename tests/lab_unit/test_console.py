"""What of the console tells why a boot failed."""

from __future__ import annotations

from pathlib import Path

from domicile.lab.console import has_come_up, read_console, telling_lines, trouble

PANIC = """\
(XEN) Initializing Credit2 scheduler
(XEN) ****************************************
(XEN) Panic on CPU 0:
(XEN) Could not allocate Dom0 memory
(XEN) ****************************************
(XEN)
(XEN) Reboot in five seconds...
"""


def test_a_panic_is_found_with_what_follows() -> None:
    assert trouble(PANIC)
    assert telling_lines(PANIC)[:2] == ["(XEN) Panic on CPU 0:", "(XEN) Could not allocate Dom0 memory"]


def test_a_kernel_panic_is_found() -> None:
    text = "[1.0] fine\n[2.0] Kernel panic - not syncing: VFS: Unable to mount root fs\n[2.1] CPU: 0\n"
    assert trouble(text)
    assert telling_lines(text)[0].endswith("Unable to mount root fs")


def test_dom0s_own_words_come_before_the_last_lines() -> None:
    text = "a\ndomicile: xenstored does not answer\nb\nc\nd\n"
    assert not trouble(text)
    assert telling_lines(text)[0] == "domicile: xenstored does not answer"
    assert telling_lines("a\nb\n\nc\nd\n") == ["b", "c", "d"]
    assert telling_lines("") == []


def test_up_is_a_line_of_its_own() -> None:
    assert has_come_up("x\ndomicile: up\ny")
    assert not has_come_up("x domicile: up\n")
    assert telling_lines("domicile: up\ndomicile: going down\nlast") == ["domicile: up", "domicile: going down", "last"]


def test_the_log_is_read_from_where_we_stopped(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    assert read_console(log) == ""
    log.write_bytes(b"one\r\ntwo\xff\r\n")
    assert read_console(log, 5) == "two\ufffd\n"
