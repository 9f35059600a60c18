"""The search beside proven optima: what is kept of a run, and what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.bench import against_exact
from domicile.bench.against_exact import ENUMERATED, STOPPED, Compared, known, run, table


def result(seed: int, gap: float | None = 0.0, proof: str = ENUMERATED, *, possible: bool = True) -> Compared:
    return Compared(seed, 4, 3, proof, gap is not None, gap, gap, possible, 0.001, 0.01)


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, worked_out = tmp_path / "results.jsonl", []

    def compare(seed: int) -> Compared:
        worked_out.append(seed)
        if seed == 3 and worked_out.count(3) == 1:
            raise KeyboardInterrupt
        return result(seed)

    monkeypatch.setattr(against_exact, "compare", compare)
    with pytest.raises(KeyboardInterrupt):
        run(path, 0, 5)
    # a line that was cut off by the end of the process
    path.write_bytes(path.read_bytes() + b'\n{"seed":2,"nod')
    assert [one.seed for one in run(path, 0, 5)] == [0, 1, 2, 3, 4]
    assert worked_out == [0, 1, 2, 3, 3, 4]
    assert known(path)[4] == result(4)


def test_what_was_not_proven_is_told_apart() -> None:
    results = [*(result(seed, 0.001 * seed) for seed in range(10)), result(10, 0.3, STOPPED), result(11, None)]
    shown = table(results)
    columns = {str(column.header): list(column.cells) for column in shown.columns[:5]}
    assert columns["instances"] == ["11", "11", "0", "1"]
    assert columns["worst"][0] == "0.900%"
    assert list(shown.columns[7].cells) == ["1", "1", "0", "0"]
