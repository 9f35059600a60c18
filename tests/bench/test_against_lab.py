"""What was measured in the lab, beside the simulator: where no doubt is possible they agree."""

from __future__ import annotations

import pytest

from domicile.bench.against_lab import Comparison, Spread, measured, simulated, table
from domicile.lab.measure.scenario import scenario_names as of_the_lab
from domicile.simulator.scenario import scenario_names as of_the_simulator


def test_what_was_measured_can_be_simulated() -> None:
    found = measured()
    assert len(found) >= 5
    for each in found:
        assert each.scenario in of_the_lab()
        assert each.scenario in of_the_simulator()
        assert all(0 <= share <= 1 for share in (*each.remote, *each.home))
        assert len(each.remote) == len(each.home)


@pytest.mark.parametrize(
    ("scenario", "remote", "home"), [("one-busy-credit", 0, 1), ("three-busy-pinned", 0, 1), ("wrong-node", 1, 1)]
)
def test_hard_affinity_and_credit_leave_no_doubt(scenario: str, remote: float, home: float) -> None:
    (seen,) = (each for each in measured() if each.scenario == scenario)
    found = simulated(scenario, [0])
    assert found[0].mean == pytest.approx(remote, abs=0.03)
    assert found[1].mean == pytest.approx(home, abs=0.03)
    assert Spread(seen.remote).mean == pytest.approx(remote, abs=0.03)


def test_credit2_leaves_the_node_of_a_busy_guest() -> None:
    """How much of it differs: see docs/simulator.md."""
    (seen,) = (each for each in measured() if each.scenario == "one-busy")
    assert Spread(seen.remote).mean > 0.4
    assert simulated("one-busy", [0, 1])[0].mean > 0.4


def test_the_table_has_a_line_for_each() -> None:
    found = [
        Comparison(each, (Spread(each.remote), Spread((0.0,))), (Spread(each.home), Spread((1.0,))))
        for each in measured()
    ]
    assert table(found).row_count == len(found)
    assert str(Spread((0.25, 0.75))) == "50.0% (25% to 75%)"
