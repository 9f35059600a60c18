"""Writing a time series as it comes, and drawing it: JSON lines, Parquet (with pyarrow), a picture (with matplotlib).

Memory is bounded: files are written point by point (Parquet in groups of rows), a picture keeps a few hundred points.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from domicile.errors import BadInput
from domicile.simulator.run import Sample

__all__ = ["JsonLines", "ParquetSeries", "Picture", "Series", "domain_rows", "open_series"]

Row = dict[str, Any]

ROWS_PER_GROUP = 50_000
MOST_POINTS = 400

DOMAIN_FIGURES = ("cpus", "slowdown", "remote_share", "home_share", "node_moves_per_s", "bandwidth_gbs")
NODE_FIGURES = ("busy", "controller", "free_mib")


def domain_rows(sample: Sample) -> list[Row]:
    """A point of the series as rows, one for each domain that was there and one for each node."""
    time_s = round(sample.time_s, 6)
    domains = [
        {"t_s": time_s, "domain": domain.name, **{name: getattr(domain, name) for name in DOMAIN_FIGURES}}
        for domain in sample.summary.domains
        if domain.there_s > 0
    ]
    nodes = [
        {"t_s": time_s, "node": node.node, **{name: getattr(node, name) for name in NODE_FIGURES}}
        for node in sample.summary.nodes
    ]
    return domains + nodes


class Series:
    """A series that goes somewhere, closed with the block that it was opened for."""

    def write(self, sample: Sample) -> None:
        """One more point."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left, and close."""
        raise NotImplementedError


class JsonLines(Series):
    """A series as JSON lines: a row a line, what does not apply left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: IO[bytes] = path.open("wb")
        except OSError as error:
            raise BadInput(str(path), f"the series cannot be written: {error.strerror}") from error

    def write(self, sample: Sample) -> None:
        """Write a point. Raises `BadInput` where the disk is full."""
        rows = [{key: value for key, value in row.items() if value is not None} for row in domain_rows(sample)]
        try:
            self._file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        except OSError as error:
            raise BadInput(str(self._path), f"the series cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetSeries(Series):
    """A series as Parquet; needs pyarrow."""

    def __init__(self, path: Path) -> None:
        self._arrow = _extra("pyarrow", "Parquet", str(path))
        self._parquet = _extra("pyarrow.parquet", "Parquet", str(path))
        arrow = self._arrow
        self._schema = arrow.schema(
            [("t_s", arrow.float64()), ("domain", arrow.string()), ("node", arrow.int32())]
            + [(name, arrow.float64()) for name in (*DOMAIN_FIGURES, *NODE_FIGURES)]
        )
        try:
            self._writer = self._parquet.ParquetWriter(path, self._schema)
        except OSError as error:
            raise BadInput(str(path), f"the series cannot be written: {error}") from error
        self._rows: list[Row] = []

    def write(self, sample: Sample) -> None:
        """Keep a point; rows are written in groups."""
        self._rows += domain_rows(sample)
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


class Picture(Series):
    """A picture of a series; needs matplotlib. The form goes by the name's ending (SVG, PNG, PDF)."""

    def __init__(self, path: Path, title: str = "") -> None:
        self._figure = _extra("matplotlib.figure", "a picture", str(path))
        if path.suffix.lower() not in (".svg", ".png", ".pdf"):
            raise BadInput(str(path), "a picture's name ends in .svg, .png or .pdf")
        self._path, self._title = path, title
        self._points: list[Sample] = []
        self._step = 1
        self._seen = 0

    def write(self, sample: Sample) -> None:
        """Keep a point; when there are too many, only every second one from then on."""
        if self._seen % self._step == 0:
            self._points.append(sample)
        self._seen += 1
        if len(self._points) > MOST_POINTS:
            self._points = self._points[::2]
            self._step *= 2

    def close(self) -> None:
        """Draw it."""
        if not self._points:
            return
        figure = self._figure.Figure(figsize=(9, 8), layout="constrained")
        above, middle, below = figure.subplots(3, 1, sharex=True)
        self._draw_domains(above, middle)
        times = [point.time_s for point in self._points]
        for row, node in enumerate(self._points[0].summary.nodes):
            below.plot(times, [point.summary.nodes[row].busy for point in self._points], label=f"node {node.node}")
        above.set_ylabel("slowdown")
        middle.set_ylabel("share of remote accesses")
        below.set_ylabel("share of pCPU time")
        below.set_xlabel("simulated seconds")
        middle.set_ylim(-0.02, 1.02)
        below.set_ylim(-0.02, 1.02)
        figure.suptitle(self._title)
        for axes in (above, below):
            axes.legend(fontsize="x-small", ncols=4, loc="upper right")
        try:
            figure.savefig(self._path)
        except OSError as error:
            raise BadInput(str(self._path), f"the picture cannot be written: {error.strerror}") from error

    def _draw_domains(self, above: Any, middle: Any) -> None:
        times = [point.time_s for point in self._points]
        for row, domain in enumerate(self._points[0].summary.domains):
            series = [point.summary.domains[row] for point in self._points]
            nothing = float("nan")
            # a legend of more than this hides what it explains
            label = domain.name if row < 12 else None
            above.plot(times, [nothing if s.slowdown is None else s.slowdown for s in series], label=label)
            middle.plot(times, [nothing if s.remote_share is None else s.remote_share for s in series])


def open_series(path: Path) -> Series:
    """A series that is written to a file: Parquet where its name ends so, else JSON lines."""
    return ParquetSeries(path) if path.suffix.lower() == ".parquet" else JsonLines(path)


def _extra(module: str, what: str, source: str) -> Any:
    """A library that domicile does without where it is not asked for this."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise BadInput(source, f"{what} needs {package}: pip install {package}, or give another ending") from error
