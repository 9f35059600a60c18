"""All benchmarks, one after the other."""

from benchmarks.evaluate import main as evaluate
from benchmarks.placement import main as placement
from benchmarks.simulator import main as simulator

placement()
simulator()
evaluate()
