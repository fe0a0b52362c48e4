"""Many training runs: comparisons of losses over seeds."""

from sweeps.arms import Arm, Family, arms_of, load_family
from sweeps.differences import Difference, check_differences, differences_between

__all__ = ["Arm", "Difference", "Family", "arms_of", "check_differences", "differences_between", "load_family"]
