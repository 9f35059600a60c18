"""Series and pictures: what is written can be read again, and says the same in both forms."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import msgspec
import pytest

from domicile.errors import BadInput
from domicile.simulator.output import Picture, domain_rows, open_series
from domicile.simulator.run import Sample
from domicile.simulator.totals import DomainSummary, NodeSummary, Summary

WEB = DomainSummary("web", 1.0, 1.2, 1.5, 0.8, 1.0, 0.25, 0.75, 0.1, 0.0, 2.0)
LATE = DomainSummary("late", 0.0, None, None, 0.0, 0.0, None, None, 0.0, 0.0, 0.0)
NODE = NodeSummary(3, 0.5, 0.25, 1000)


def point(time_s: float) -> Sample:
    return Sample(time_s, Summary(1.0, True, (WEB, LATE), (NODE,)))


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with open_series(path) as series:
        series.write(point(1.0))
        series.write(point(2.0))
    rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert [row["t_s"] for row in rows] == [1.0, 1.0, 2.0, 2.0]
    assert rows[0]["domain"] == "web"
    assert rows[0]["slowdown"] == 1.2
    assert rows[1] == {"t_s": 1.0, "node": 3, "busy": 0.5, "controller": 0.25, "free_mib": 1000}


def test_parquet_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    with open_series(path) as series:
        series.write(point(1.0))
    rows = import_module("pyarrow.parquet").read_table(path).to_pylist()
    bare = [{key: value for key, value in row.items() if value is not None} for row in rows]
    assert bare == domain_rows(point(1.0))


@pytest.mark.parametrize(("ending", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_a_picture(tmp_path: Path, ending: str, magic: bytes) -> None:
    path = tmp_path / f"s{ending}"
    with Picture(path, "a title") as picture:
        for time in range(2000):
            picture.write(point(float(time)))
    assert path.read_bytes().startswith(magic)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the series cannot be written"):
        open_series(tmp_path / "no" / "s.jsonl")
    with pytest.raises(BadInput, match="ends in"):
        Picture(tmp_path / "s.gif")
