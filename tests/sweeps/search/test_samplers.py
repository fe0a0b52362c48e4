import inspect
import math

import optuna
import pytest

from sweeps.search.samplers import design, sampler_of
from sweeps.search.spaces import load_space

FIPO = load_space("default", "fipo")


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_a_design_is_keyed_by_seed_and_ranges_and_a_shorter_one_begins_a_longer_one(sampler: str) -> None:
    short, long, other = (design(FIPO, sampler, count, seed) or [] for count, seed in ((5, 0), (33, 0), (5, 1)))
    assert long[:5] == short != other
    assert len({repr(values) for values in long}) == 33
    shared, again = (design(load_space("shared", loss), sampler, 5, 0) or [] for loss in ("dapo", "gspo"))
    assert shared == again  # losses are tried at the same points
    assert {values["lr"] for values in shared}.isdisjoint(values["lr"] for values in short)


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_designs_cover_every_range_in_its_logarithm(sampler: str) -> None:
    drawn = design(FIPO, sampler, 256, 0) or []
    for name, one in FIPO.searched.items():
        low, high = (math.log(bound) for bound in one.values)
        shares = [(math.log(values[name]) - low) / (high - low) for values in drawn]
        quarters = [sum(quarter <= 4 * share < quarter + 1 for share in shares) for quarter in range(4)]
        assert min(quarters) > 40
        assert sum(quarters) == 256


def test_tpe_has_no_design_and_spends_few_trials_at_random() -> None:
    assert design(FIPO, "tpe", 4, 0) is None
    for trials, startup in ((1, 4), (12, 4), (20, 5), (39, 9), (40, 10), (400, 10)):
        assert sampler_of("tpe", trials, 0)["arguments"]["n_startup_trials"] == startup


def test_every_argument_of_the_sampler_is_given() -> None:
    known = {"constraints_func", "seed", "warn_independent_sampling"}
    deprecated = {"consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints", "gamma", "weights"}
    arguments = set(inspect.signature(optuna.samplers.TPESampler).parameters)
    assert arguments - known - deprecated == set(sampler_of("tpe", 12, 0)["arguments"])
