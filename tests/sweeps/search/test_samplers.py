import inspect
import math

import optuna
import pytest

from sweeps.search.samplers import design, sampler_of
from sweeps.search.spaces import Parameter, Space, load_space

FIPO = load_space("default", "fipo")


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_a_design_is_keyed_by_seed_and_loss_and_a_shorter_one_begins_a_longer_one(sampler: str) -> None:
    short, long, *others = (
        design(FIPO, sampler, count, key) for count, key in ((5, (0, "fipo")), (33, (0, "fipo")), (5, (1, "fipo")))
    )
    assert short is not None
    assert long is not None
    assert long[:5] == short
    assert short not in [*others, design(FIPO, sampler, 5, (0, "dapo"))]
    assert len({repr(values) for values in long}) == 33


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_designs_cover_every_range_in_its_logarithm(sampler: str) -> None:
    drawn = design(FIPO, sampler, 256, (0, "fipo")) or []
    for name, one in FIPO.searched.items():
        low, high = (math.log(bound) for bound in one.values)
        shares = [(math.log(values[name]) - low) / (high - low) for values in drawn]
        quarters = [sum(quarter <= 4 * share < quarter + 1 for share in shares) for quarter in range(4)]
        assert min(quarters) > 40
        assert sum(quarters) == 256


def test_two_points_of_qmc_are_both_of_two_choices() -> None:
    space = Space({"averaging": Parameter("choice", ("token_mean", "sequence_mean"))})
    drawn = design(space, "qmc", 2, (0, "fipo")) or []
    assert {values["averaging"] for values in drawn} == {"token_mean", "sequence_mean"}


def test_tpe_has_no_design_and_spends_few_trials_at_random() -> None:
    assert design(FIPO, "tpe", 4, (0, "fipo")) is None
    for trials, startup in ((1, 4), (12, 4), (20, 5), (39, 9), (40, 10), (400, 10)):
        assert sampler_of("tpe", trials, 0).arguments["n_startup_trials"] == startup


def test_every_argument_of_the_sampler_is_given() -> None:
    known = {"constraints_func", "seed", "warn_independent_sampling"}
    deprecated = {"consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints", "gamma", "weights"}
    arguments = set(inspect.signature(optuna.samplers.TPESampler).parameters)
    assert arguments - known - deprecated == set(sampler_of("tpe", 12, 0).arguments)
