import math

import pytest

from harness import UsageError
from sweeps.search.designs import DESIGNED, at, design, grid
from sweeps.search.samplers import PRUNERS, SAMPLERS, pruner_spec, sampler_spec
from sweeps.search.spaces import Parameter, Space, load_space

FIPO = load_space("default", "fipo")


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_a_shorter_design_is_the_beginning_of_a_longer_one(sampler: str) -> None:
    short, long = (design(FIPO, sampler, count, (0, "fipo")) for count in (5, 33))
    assert short is not None
    assert long is not None
    assert long[:5] == short
    assert len({repr(values) for values in long}) == 33


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_seed_and_loss_key_a_design(sampler: str) -> None:
    same, again = (design(FIPO, sampler, 4, (0, "fipo")) for _ in range(2))
    assert same == again
    others = [design(FIPO, sampler, 4, key) for key in ((1, "fipo"), (0, "dapo"))]
    assert same not in others


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_designs_cover_every_range_in_its_logarithm(sampler: str) -> None:
    drawn = design(FIPO, sampler, 256, (0, "fipo"))
    assert drawn is not None
    for name, one in FIPO.searched.items():
        low, high = (math.log(bound) for bound in one.values)
        shares = [(math.log(float(str(values[name]))) - low) / (high - low) for values in drawn]
        quarters = [sum(quarter <= 4 * share < quarter + 1 for share in shares) for quarter in range(4)]
        assert min(quarters) > 40
        assert sum(quarters) == 256


def test_a_grid_is_every_combination() -> None:
    space = Space("own", {"lr": Parameter("choice", (1.0, 2.0)), "epsilon": Parameter("step", (0.1, 0.3, 0.1))})
    assert grid(space) == [{"lr": lr, "epsilon": epsilon} for lr in (1.0, 2.0) for epsilon in (0.1, 0.2, 0.3)]


def test_a_grid_over_a_log_range_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--sampler grid: expected choices or steps, got a log range for lr"):
        grid(FIPO)


def test_a_grid_too_large_is_refused() -> None:
    wide = Parameter("step", (0, 100, 1))
    with pytest.raises(UsageError, match="at most 10000 combinations, got 1030301"):
        grid(Space("own", {"a": wide, "b": wide, "c": wide}))


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - set(DESIGNED)))
def test_samplers_that_learn_have_no_design(sampler: str) -> None:
    assert design(FIPO, sampler, 4, (0, "fipo")) is None


def test_points_map_to_values() -> None:
    import numpy as np

    values = at({"lr": Parameter("log", (1.0, 100.0)), "x": Parameter("choice", ("a", "b"))}, np.array([0.5, 0.5]))
    assert values == {"lr": pytest.approx(10.0), "x": "b"}


@pytest.mark.parametrize(("trials", "startup"), [(12, 4), (20, 5), (39, 9), (40, 10), (400, 10), (1, 4)])
def test_few_trials_are_not_all_spent_at_random(trials: int, startup: int) -> None:
    for name in ("tpe", "gp"):
        assert sampler_spec(name, trials).arguments["n_startup_trials"] == startup


def test_unknown_samplers_and_pruners_name_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"^--sampler: expected one of tpe, gp, grid, qmc, random, got 'cma'"):
        sampler_spec("cma", 12)
    with pytest.raises(UsageError, match=f"^--pruner: expected one of {', '.join(PRUNERS)}, got 'median'"):
        pruner_spec("median", 2)
