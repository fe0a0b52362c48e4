"""Many training runs: comparisons of losses over seeds."""

from sweeps.study.arms import Arm, Family, arms_of, check_differences, differences_between, load_family

__all__ = ["Arm", "Family", "arms_of", "check_differences", "differences_between", "load_family"]
