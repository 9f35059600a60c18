"""Recorded VMs to replay: a trace of CPU use in Parquet, as OpenDC keeps them (needs pyarrow).

Columns: `id` (text), `timestamp` (the end of a sample), `duration` (ms), `cpu_count`, `cpu_usage` (MHz of all vCPUs
together). A file beside it whose name has `meta` for `trace` tells each VM's `cpu_capacity` (MHz) and `mem_capacity`
(MB). Source: OpenDC's trace format (MIT); the traces are GWA-T-12 "Bitbrains" (Shen, van Beek, Iosup, CCGRID 2015).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from domicile.errors import BadInput

__all__ = ["RecordedVm", "read_traces"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RecordedVm:
    """A recorded VM: `level`, share of a pCPU that each of its vCPUs used in the step that ended `until_s` after the
    first began; steps follow each other, gaps in the recording are idle."""

    name: str
    vcpus: int
    memory_mib: int
    until_s: Floats
    level: Floats


def read_traces(path: Path) -> Mapping[str, RecordedVm]:
    """All VMs of a recording, by name. Raises `BadInput` where the file is none, or pyarrow is missing."""
    source = str(path)
    rows = _table(path, ("id", "timestamp", "duration", "cpu_count", "cpu_usage"))
    about = _table(
        path.with_name(path.name.replace("trace", "meta")), ("id", "cpu_count", "cpu_capacity", "mem_capacity")
    )
    capacity = dict(zip(about["id"], about["cpu_capacity"], strict=True))
    memory = dict(zip(about["id"], about["mem_capacity"], strict=True))
    names = np.array(rows["id"])
    ends_s = np.array([moment.timestamp() for moment in rows["timestamp"]])
    lengths_s = np.array(rows["duration"], dtype=np.float64) / 1e3
    used_mhz, counts = np.array(rows["cpu_usage"], dtype=np.float64), np.array(rows["cpu_count"], dtype=np.int64)
    if not np.isfinite(used_mhz).all() or not (lengths_s > 0).all() or (used_mhz < 0).any():
        raise BadInput(source, "a sample has no length, or a use that is no number from 0 on")
    found: dict[str, RecordedVm] = {}
    for name in sorted(set(rows["id"])):
        mine = np.flatnonzero(names == name)
        mine = mine[np.argsort(ends_s[mine], kind="stable")]
        vcpus = int(counts[mine].max())
        whole_mhz = float(capacity.get(name, 0.0))
        if vcpus < 1 or whole_mhz <= 0:
            raise BadInput(source, f"VM {name} has no vCPUs or no capacity")
        until_s, level = _steps(ends_s[mine], lengths_s[mine], np.minimum(used_mhz[mine] / whole_mhz, 1.0))
        # OpenDC gives kB although it says MB: what is left is a VM of this size
        found[name] = RecordedVm(name, vcpus, max(int(memory[name]) // 1024, 64), until_s, level)
    return found


def _steps(ends_s: Floats, lengths_s: Floats, level: Floats) -> tuple[Floats, Floats]:
    """Steps without gaps from samples that may leave some or overlap: an idle step fills a gap."""
    until_s: list[float] = []
    levels: list[float] = []
    begin_s = ends_s[0] - lengths_s[0]
    now_s = 0.0
    for end, length, share in zip(ends_s - begin_s, lengths_s, level, strict=True):
        if end - length > now_s:
            until_s.append(float(end - length))
            levels.append(0.0)
        if end > now_s:
            until_s.append(float(end))
            levels.append(float(share))
            now_s = float(end)
    return np.array(until_s), np.array(levels)


def _table(path: Path, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    """Columns of a Parquet file as lists."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise BadInput(str(path), "traces need pyarrow: pip install pyarrow") from error
    try:
        table = parquet.read_table(path, columns=list(columns))
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
        raise BadInput(str(path), f"no Parquet with the columns {', '.join(columns)}: {str(error)[:200]}") from error
    return {name: table[name].to_pylist() for name in columns}
