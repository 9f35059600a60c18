"""Who made something, and whether it still lives."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

from domicile.local.process import NOBODY, ProcessId, is_alive, this_process


def test_lives_while_it_runs() -> None:
    me = this_process()
    assert me.pid == os.getpid()
    assert is_alive(me)
    assert not is_alive(NOBODY)


def test_another_with_its_pid_or_of_another_boot_is_not_it() -> None:
    me = this_process()
    assert not is_alive(replace(me, started_ticks=me.started_ticks + 1))
    assert not is_alive(replace(me, boot="00000000-0000-0000-0000-000000000000"))


def test_a_zombie_and_a_reaped_child_are_dead() -> None:
    code = (
        "from domicile.local.process import this_process as t; p = t(); print(p.started_ticks, p.boot, flush=True);"
        "input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        ticks, boot = it.stdout.readline().split()
        child = ProcessId(it.pid, int(ticks), boot)
        assert is_alive(child)
        it.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, it.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(child), "a zombie is not alive"
    assert not is_alive(child)
