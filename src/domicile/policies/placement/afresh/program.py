"""A mixed-integer linear program, put together row by row and solved by HiGHS (Huangfu and Hall, "Parallelizing the
dual revised simplex method", Math. Prog. Comp. 10, 2018; the extra `exact`)."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from domicile.errors import Refused
from domicile.performance.curves import Floats

__all__ = ["Program", "Solution"]


LOOK_S = 0.05
"""How often somebody is asked whether to stop."""


@dataclass(frozen=True, eq=False)
class Solution:
    """The best values found (none: no solution), their objective, and a bound that no solution is below. `status` is in
    HiGHS' words."""

    values: Floats | None
    objective: float
    bound: float
    status: str


@dataclass(eq=False)
class Program:
    """Variables with their costs and bounds, rows with theirs. Minimised."""

    costs: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    rows: list[tuple[float, float, dict[int, float]]] = field(default_factory=list)
    offset: float = 0.0

    def variable(self, cost: float = 0.0, upper: float = inf, *, whole: bool = False) -> int:
        """One more variable, from 0 on; its number."""
        self.costs.append(cost)
        self.lower.append(0.0)
        self.upper.append(upper)
        self.whole.append(whole)
        return len(self.costs) - 1

    def choice(self, cost: float = 0.0) -> int:
        """A variable that is 0 or 1."""
        return self.variable(cost, 1.0, whole=True)

    def row(self, terms: Mapping[int, float], least: float = -inf, most: float = inf) -> None:
        """Keep a sum between two figures."""
        self.rows.append((least, most, {column: factor for column, factor in terms.items() if factor}))

    def solved(self, limit_s: float = inf, going_on: Callable[[float], bool] | None = None) -> Solution:
        """Solve it, in so many seconds at most. `going_on` is told what part of them has passed, and says whether to
        go on. Raises `Refused` where HiGHS is not installed."""
        try:
            highspy: Any = importlib.import_module("highspy")
        except ImportError as error:
            raise Refused(
                "--exact needs HiGHS for a problem of this size; install it: pip install 'domicile[exact]'"
            ) from error
        solver = _quietly(highspy.Highs)
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("threads", 1)
        solver.setOptionValue("random_seed", 0)
        solver.setOptionValue("mip_rel_gap", 1e-7)
        solver.setOptionValue("mip_abs_gap", 1e-7)
        if np.isfinite(limit_s):
            solver.setOptionValue("time_limit", limit_s)
        solver.passModel(self._model(highspy))
        _run(solver, limit_s, going_on)
        status = solver.getModelStatus()
        said = str(solver.modelStatusToString(status))
        if status == highspy.HighsModelStatus.kInfeasible:
            return Solution(None, inf, inf, said)
        info = solver.getInfo()
        known = info.primal_solution_status == 2  # kSolutionStatusFeasible
        values = np.array(solver.getSolution().col_value) if known else None
        objective = float(info.objective_function_value) if known else inf
        return Solution(values, objective, float(info.mip_dual_bound), said)

    def _model(self, highspy: Any) -> Any:
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(self.costs), len(self.rows)
        model.col_cost_ = np.array(self.costs)
        model.col_lower_, model.col_upper_ = np.array(self.lower), np.array(self.upper)
        model.row_lower_ = np.array([least for least, _, _ in self.rows])
        model.row_upper_ = np.array([most for _, most, _ in self.rows])
        model.offset_ = self.offset
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        model.integrality_ = [kinds[whole] for whole in self.whole]
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0, *(len(terms) for _, _, terms in self.rows)], dtype=np.int32)
        model.a_matrix_.index_ = np.array([column for _, _, terms in self.rows for column in terms], dtype=np.int32)
        model.a_matrix_.value_ = np.array([factor for _, _, terms in self.rows for factor in terms.values()])
        return model


def _run(solver: Any, limit_s: float, going_on: Callable[[float], bool] | None) -> None:
    """Solve; in a thread of HiGHS' own where somebody may want to stop it."""
    if going_on is None:
        solver.run()
        return
    solver.HandleUserInterrupt = True
    solver.startSolve()
    looks, stopped = 0, False
    while not solver.wait(LOOK_S)[0]:
        looks += 1
        if not stopped and not going_on(looks * LOOK_S / limit_s):
            solver.cancelSolve()
            stopped = True


def _quietly(make: Callable[[], Any]) -> Any:
    """HiGHS 1.16 prints its version on standard output when it is made, before it can be told not to."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        return make()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
