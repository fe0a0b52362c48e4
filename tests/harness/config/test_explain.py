"""`harness show`: every setting of the loss is in the text, and the recipes are those of the paper."""

from typing import get_args

import pytest

from harness.__main__ import main
from harness.config.explain import loss_steps, loss_text
from harness.config.loss import LOSS_TYPES, LossSettings, Placebo, is_anothers
from harness.config.resolve import resolve
from tests.harness.command_line import outcome

LOSSES = ("grpo", "dapo", "fipo")
# of each loss, a value that is neither the default nor the recipe's
CHANGES: dict[str, object] = {"averaging": "constant", "epsilon": 0.1, "epsilon_high": 0.4, "delta": 7.0}
CHANGES |= {"beta": 0.04, "log_ratio_clamp": 15.0, "fipo_clip_range": 0.5}
CHANGES |= {"sequence_filter": False, "advantage_scale": "batch", "advantage_std_eps": 1e-3, "fipo_decay_rate": 8.0}
CHANGES |= {"fipo_clip_high_only": False, "fipo_safety_threshold": 5.0, "fipo_weight_bound": 3.0}
CHANGES |= {"fipo_filter_in_log_space": False, "fipo_signed": True}
OF_FIPO = [
    name for name in LossSettings.model_fields if name not in ("loss_type", "placebo") and not is_anothers(name, "fipo")
]


@pytest.mark.parametrize("loss_type", LOSSES)
def test_every_setting_of_the_loss_is_shown(loss_type: str) -> None:
    config = resolve({"loss_type": loss_type})
    flags = {flag for step in loss_steps(config) for flag in step.flags}
    others = {"loss_type", "placebo"} | {name for name in LossSettings.model_fields if is_anothers(name, loss_type)}
    assert flags == (LossSettings.model_fields.keys() - others) | {"minibatches", "epochs"}


@pytest.mark.parametrize("loss_type", [name for name in LOSS_TYPES if name not in LOSSES])
def test_a_rival_is_explained_by_its_source_its_formula_and_its_own_settings(loss_type: str) -> None:
    step = loss_steps(resolve({"loss_type": loss_type}))[2]
    assert "arXiv 2" in step.source
    assert step.formula.startswith("L_t = ")
    assert step.notes
    assert set(step.flags) == {name for name in LossSettings.model_fields if name.startswith(f"{loss_type}_")}


@pytest.mark.parametrize("flag", OF_FIPO)
def test_a_changed_setting_changes_the_formulas(flag: str) -> None:
    base = {"fipo_clip_range": None if flag == "fipo_weight_bound" else 0.2}
    both = (base, base | {flag: CHANGES[flag]})
    before, after = (loss_steps(resolve(settings, preset="recipe/fipo-32b")) for settings in both)
    assert [step.formula for step in before] != [step.formula for step in after]


@pytest.mark.parametrize("loss_type", ["fipo", "dapo", "sapo"])
@pytest.mark.parametrize("placebo", [kind for kind in get_args(Placebo) if kind != "none"])
def test_a_placebo_is_a_step_of_its_own(loss_type: str, placebo: str) -> None:
    plain, other = (loss_steps(resolve({"loss_type": loss_type, "placebo": kind})) for kind in ("none", placebo))
    (step,) = [step for step in other if step not in plain]
    assert (step.name, step.flags) == ("placebo", ("placebo",))
    assert step.formula.startswith("f " if loss_type == "fipo" else "w, the factor of A grad log pi, ")


def test_text_fits_a_terminal_and_names_every_step() -> None:
    config = resolve({}, preset="recipe/fipo-7b")
    text = loss_text(config)
    assert max(map(len, text.splitlines())) <= 110
    assert [f"{number}. {step.name}" in text for number, step in enumerate(loss_steps(config), 1)] == [True] * 11


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = outcome(main, ["show", "--preset", "recipe/fipo-32b", "--fipo_decay_rate", 128], capsys)
    assert (shown.exit_code, shown.errors) == (0, [])
    assert any("gamma = 2^(-1 / 128)" in line for line in shown.printed)
