"""All benchmarks, one after the other."""

from benchmarks.placement import main as placement

placement()
