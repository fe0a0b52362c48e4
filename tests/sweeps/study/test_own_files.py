"""Arms of a study have one task and one reward, whose files stay as they were when the study began."""

from pathlib import Path

import pytest

from harness import UsageError
from sweeps import arms_of, check_differences, differences_between, load_family
from sweeps.study.folder import write_study

CONTROLLED = load_family("controlled")


def test_a_study_goes_on_with_the_files_it_began_with_alone(tmp_path: Path) -> None:
    arms = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"{name} = 1")
        flags = {"task": f"{tmp_path / name}/mine.py:Mine", "model": "any"}
        arms[name] = arms_of(CONTROLLED, {"dapo": 1}, "demo", flags)
    for _ in range(2):
        write_study(tmp_path, CONTROLLED, "demo", arms["one"], {"claims": None})
    with pytest.raises(UsageError, match="expected the files of --task and --reward that the study began with"):
        write_study(tmp_path, CONTROLLED, "demo", arms["two"], {"claims": None})


def test_arms_with_other_tasks_or_rewards_are_refused_even_as_confounds() -> None:
    family = load_family("recipe")
    arms = [*arms_of(family, {"dapo": 1}, "demo", {}), *arms_of(family, {"fipo": 1}, "demo", {"reward": "r.py:a=1"})]
    with pytest.raises(UsageError, match=r"expected arms with the same --reward, got dapo None, fipo r\.py:a=1"):
        check_differences(differences_between(arms, family), family)
