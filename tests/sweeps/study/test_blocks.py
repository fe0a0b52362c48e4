"""Designs of several blocks: which runs they make, what they share, and what they may not say."""

from pathlib import Path

import pytest

from harness import UsageError
from sweeps import load_family
from sweeps.study.blocks import DESIGNS, Design, load_design, planned
from sweeps.study.claims import claims_file

STUDY = load_family("study")
HEAD = 'title = "t"\nfamily = "study"\npreset = "demo"\nclaims = "none"\nwarm_starts = 3\n'
TWO = HEAD + (
    '[blocks.one]\nquestion = "?"\narms = ["dapo", "fipo"]\nseeds = 4\n'
    '[blocks.two]\nquestion = "?"\narms = ["fipo"]\nseeds = 6\nvary = { fipo_decay_rate = [8.0, 32.0] }\n'
)


def design_of(folder: Path, content: str) -> Design:
    path = folder / "own.toml"
    path.write_text(content)
    return load_design(str(path))


@pytest.mark.parametrize("name", sorted(path.stem for path in DESIGNS.glob("*.toml")))
def test_shipped_designs_resolve_and_differ_only_where_they_may(name: str) -> None:
    design = load_design(name)
    arms, described = planned(design, load_family(design.family), {})
    assert design.claims == "none" or claims_file(design.claims).is_file()
    assert {arm.name for arm in arms} == {
        cell["cell"] for block in described["blocks"].values() for cell in block["cells"]
    }


def test_the_standard_study_has_pairs_and_seeds_enough_for_ranks() -> None:
    arms, described = planned(load_design("standard"), STUDY, {})
    by_name = {arm.name: arm for arm in arms}
    starts = {config.model.model_seed for arm in arms for config in arm.configs.values()}
    assert starts == {0, 1, 2}
    cells = {name: block["cells"] for name, block in described["blocks"].items()}
    (again,) = (by_name[cell["cell"]] for cell in cells["again"])
    dapo = by_name[next(cell["cell"] for cell in cells["preset"] if cell["arm"] == "dapo")]
    pairs = list(zip(list(dapo.configs.values())[:9], again.configs.values(), strict=True))
    assert all(one.model.model_seed == other.model.model_seed for one, other in pairs)
    assert all(one.loss == other.loss and one.run.seed != other.run.seed for one, other in pairs)
    fewest = {name: min(len(by_name[cell["cell"]].configs) for cell in each) for name, each in cells.items()}
    assert {name for name, seeds in fewest.items() if seeds < 8} == {"negative"}
    assert {tuple(sorted({cell["level"] for cell in cells[name]})) for name in ("rates", "damp_rates")} == {
        (3.75e-5, 7.5e-5, 1.5e-4, 3e-4),
        (1e-4, 2e-4, 3e-4, 5e-4),
    }


def test_what_two_blocks_share_is_one_cell_with_the_seeds_of_both(tmp_path: Path) -> None:
    arms, described = planned(design_of(tmp_path, TWO), STUDY, {})
    assert [arm.name for arm in arms] == ["one.dapo", "one.fipo", "two.fipo.8.0"]  # fipo's own decay rate is 32
    assert [(cell["level"], cell["cell"]) for cell in described["blocks"]["two"]["cells"]] == [
        (8.0, "two.fipo.8.0"),
        (32.0, "one.fipo"),
    ]
    assert {arm.name: list(arm.configs) for arm in arms} == {
        "one.dapo": [0, 1, 2, 3],
        "one.fipo": [0, 1, 2, 3, 4, 5],
        "two.fipo.8.0": [0, 1, 2, 3, 4, 5],
    }
    assert arms[2].any_config.loss.fipo_decay_rate == 8.0


def test_two_varied_settings_are_crossed(tmp_path: Path) -> None:
    two = "vary = { fipo_clip_range = [0.1, 0.5], fipo_safety_threshold = [2.0, 10.0] }"
    content = HEAD + f'[blocks.grid]\nquestion = "?"\narms = ["fipo"]\nseeds = 1\n{two}\n'
    arms, described = planned(design_of(tmp_path, content), STUDY, {})
    assert [(cell["level"], cell["cell"]) for cell in described["blocks"]["grid"]["cells"]] == [
        ([0.1, 2.0], "grid.fipo.0.1.2.0"),
        ([0.1, 10.0], "grid.fipo.0.1.10.0"),
        ([0.5, 2.0], "grid.fipo.0.5.2.0"),
        ([0.5, 10.0], "grid.fipo.0.5.10.0"),
    ]
    found = [(arm.any_config.loss.fipo_clip_range, arm.any_config.loss.fipo_safety_threshold) for arm in arms]
    assert found == [(0.1, 2.0), (0.1, 10.0), (0.5, 2.0), (0.5, 10.0)]


def test_seeds_start_from_warm_starts_in_turn(tmp_path: Path) -> None:
    arms, _ = planned(design_of(tmp_path, TWO), STUDY, {})
    assert [config.model.model_seed for config in arms[1].configs.values()] == [0, 1, 2, 0, 1, 2]
    fewer, _ = planned(design_of(tmp_path, TWO), STUDY, {}, most_seeds=2)
    assert {tuple(arm.configs) for arm in fewer} == {(0, 1)}


def test_settings_go_from_design_to_block_to_arm_to_level(tmp_path: Path) -> None:
    content = HEAD + (
        "[settings]\nsteps = 7\nlr = 1e-4\n"
        '[blocks.one]\nquestion = "?"\narms = ["dapo"]\nseeds = 1\nsettings = { lr = 2e-4 }\n'
        '[blocks.two]\nquestion = "?"\narms = ["dapo"]\nseeds = 1\nvary = { lr = [3e-4] }\n'
    )
    arms, _ = planned(design_of(tmp_path, content), STUDY, {"threads": 2})
    configs = [arm.any_config for arm in arms]
    assert [config.optimizer.lr for config in configs] == [2e-4, 3e-4]
    assert {(config.run.steps, config.run.threads) for config in configs} == {(7, 2)}


BAD = [
    ("title = 1", "title"),
    (HEAD + "[blocks.a]\narms = ['dapo']\nseeds = 1\n", "blocks.a.question"),
    (HEAD + '[blocks.a]\nquestion = "?"\narms = ["dapo"]\nseeds = 0\n', "blocks.a.seeds"),
    (HEAD + '[blocks.a]\nquestion = "?"\narms = ["dapo"]\nseeds = 1\nsettings = { lrr = 1 }\n', "'lrr' is no setting"),
    (HEAD + '[blocks.a]\nquestion = "?"\narms = ["dapo"]\nseeds = 1\nvary = { seed = [1] }\n', "'seed' is no setting"),
    (HEAD, "blocks"),
    ("[", "expected TOML"),
]


@pytest.mark.parametrize(("content", "said"), BAD)
def test_a_wrong_design_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        design_of(tmp_path, content)


@pytest.mark.parametrize("flag", ["lr", "seed", "loss_type", "fipo_decay_rate", "model_seed"])
def test_flags_that_the_study_sets_itself_are_refused(flag: str) -> None:
    with pytest.raises(UsageError, match=f"--{flag} is set by the study itself"):
        planned(load_design("standard"), STUDY, {flag: 1})


@pytest.mark.parametrize("setting", [{"temperature": 0.5}, {"placebo": "sign_mean"}])  # placebos are controls
def test_arms_of_a_block_may_differ_only_in_what_the_family_admits(tmp_path: Path, setting: dict[str, object]) -> None:
    family = STUDY.model_copy(update={"arms": {**STUDY.arms, "other": {"like": "fipo", **setting}}})
    content = HEAD + '[blocks.one]\nquestion = "?"\narms = ["fipo", "other"]\nseeds = 1\n'
    with pytest.raises(UsageError, match=f"arms may not differ in {next(iter(setting))}"):
        planned(design_of(tmp_path, content), family, {})
