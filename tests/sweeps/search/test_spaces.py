import math
from pathlib import Path

import pytest

from harness import UsageError, resolve
from sweeps.search.spaces import SPACES, Space, load_space
from sweeps.study.arms import load_family, load_toml, settings_of
from tests.sweeps.family_files import written

SHIPPED = sorted(path.stem for path in SPACES.glob("*.toml"))
HEAD = "[parameters]\n"


def space(folder: Path, content: str) -> Space:
    """A space written by hand."""
    return load_space(written(folder, content), "fipo")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_corner_of_a_shipped_space_is_a_valid_setting(name: str) -> None:
    found = load_toml(Space, name, SPACES, "--space")
    for loss in (name,) if name in ("grpo", "dapo", "fipo") else ("grpo", "dapo", "fipo"):
        arm = settings_of(load_family("controlled"), loss)
        for values in found.corners():
            config = resolve({**arm, **values}, "demo")
            recorded = {**config.loss.model_dump(), **config.optimizer.model_dump()}
            assert {key: recorded[key] for key in values if key != "epsilon_high"} == {
                key: value for key, value in values.items() if key != "epsilon_high"
            }


def test_losses_share_the_ranges_of_what_they_share() -> None:
    shared = load_space("shared", "dapo").parameters
    for loss in ("grpo", "dapo", "fipo"):
        own = load_space("default", loss).parameters
        assert {name: own[name] for name in shared} == shared


def test_the_four_kinds(tmp_path: Path) -> None:
    found = space(
        tmp_path,
        HEAD
        + "lr = { log = [1e-4, 1e-2] }\nepsilon = { step = [0.1, 0.35, 0.1] }\n"
        + 'averaging = { choice = ["token_mean", "sequence_mean"] }\ndelta = { fixed = "none" }\n',
    )
    lr, epsilon, averaging = (found.parameters[name] for name in ("lr", "epsilon", "averaging"))
    assert math.isclose(float(str(lr.at(0.5))), 1e-3)
    assert [epsilon.at(share) for share in (0.0, 0.34, 0.999)] == [0.1, 0.2, 0.3]
    assert [averaging.at(share) for share in (0.0, 0.5)] == ["token_mean", "sequence_mean"]
    assert found.fixed == {"delta": None}
    assert list(found.searched) == ["lr", "epsilon", "averaging"]
    assert len(list(found.corners())) == 1 + 8


def test_a_space_of_many_parameters_has_each_end_checked_by_itself(tmp_path: Path) -> None:
    names = ["lr", "epsilon", "fipo_decay_rate", "weight_decay", "grad_clip", "fipo_clip_range", "temperature"]
    found = space(tmp_path, HEAD + "".join(f"{name} = {{ log = [0.1, 0.2] }}\n" for name in names))
    corners = list(found.corners())
    assert len(corners) == 1 + 2 * len(names)
    assert all({corner[name] for corner in corners} >= {0.1, 0.2} for name in names)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[parameters", "own.toml: "),
        ("", "at least one parameter that is not fixed"),
        (HEAD + "lr = { fixed = 1e-4 }", "at least one parameter that is not fixed"),
        (HEAD + "learning_rate = { log = [1e-4, 1e-3] }", "expected settings' names, got 'learning_rate'"),
        (HEAD + "seed = { choice = [1, 2] }", "seed cannot be searched"),
        (HEAD + "steps = { choice = [2, 4] }", "steps cannot be searched: trials that differ in it"),
        (HEAD + "lr = { log = [1e-3, 1e-4] }", "0 < low < high"),
        (HEAD + "lr = { log = [1e-4] }", "log = [low, high]"),
        (HEAD + 'lr = { log = ["a", "b"] }', "log = [low, high]"),
        (HEAD + "lr = { log = [true, 2] }", "log = [low, high]"),
        (HEAD + "epsilon = { step = [0.1, 0.2, 0] }", "step > 0"),
        (HEAD + "epsilon = { choice = [0.1, 0.1] }", "two or more different choices"),
        (HEAD + "epsilon = { linear = [0.1, 0.2] }", "expected one of { log|step|choice|fixed"),
        (HEAD + "epsilon = { choice = [0.1, 0.2], fixed = 0.1 }", "expected one of { log|step|choice|fixed"),
        (HEAD + "epsilon = 0.1", "epsilon: expected one of { log|step|choice|fixed"),
        ("parameters = 3", "parameters: Input should be a valid"),
        ("sampler = 1\n" + HEAD, "sampler: Extra inputs are not permitted"),
    ],
)
def test_a_file_that_is_no_space_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"^--space ") as raised:
        space(tmp_path, content)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
