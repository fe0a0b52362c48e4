from dataclasses import replace
from pathlib import Path

from analysis.figures.style import LOSSES, NEGATIVE, arm_styles
from analysis.records.study import read


def test_arms_that_share_a_block_are_kept_apart_with_and_without_colour(block_study: Path, demo_study: Path) -> None:
    for study in (read([block_study]), read([demo_study])):
        styles = arm_styles(study)
        for block in study.blocks.values():
            beside = [styles[arm] for arm in block.arms]
            assert len({style.color for style in beside}) == len(beside)
            assert len({(style.marker, style.linestyle) for style in beside}) == len(beside)


def test_losses_keep_their_colours_and_a_negative_control_is_known_by_its_role(block_study: Path) -> None:
    study = read([block_study])
    styles = arm_styles(study)
    assert [styles[loss].color for loss in ("dapo", "fipo")] == [LOSSES["dapo"], LOSSES["fipo"]]
    assert styles["random_reward"].color == NEGATIVE
    assert styles["random_reward"].background
    assert styles["fipo_wide"].label == "FIPO, wide weights"
    assert not arm_styles(replace(study, roles={}))["random_reward"].background
