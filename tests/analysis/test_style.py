import pytest

from analysis.figures.style import KNOWN_ARMS, NAMED_ARMS, arm_label, arm_styles

TOGETHER = [  # in one figure
    [*KNOWN_ARMS, "a", "b", "c"],
    ["grpo", "dapo", "fipo", "fipo_wide", "wide_sign_mean"],
    ["dapo", "fipo", "fipo_wide", "wide_sign_mean", "wide_shuffle_within", "wide_shuffle_batch"],
    ["dapo", "dapo_again", "blame", "damp", "random_blame"],
    ["dapo", "damp", "random_blame", "a"],
]


def test_an_arm_looks_the_same_in_whatever_company() -> None:
    for arm, style in NAMED_ARMS.items():
        assert arm_styles([arm])[arm] == arm_styles(["other", arm, "another"])[arm] == style


@pytest.mark.parametrize("arms", TOGETHER)
def test_arms_are_told_apart_without_colour_and_without_marker(arms: list[str]) -> None:
    styles = list(arm_styles(arms).values())
    assert len({style.color for style in styles}) == len(styles)
    assert len({(style.marker, style.linestyle) for style in styles}) == len(styles)


def test_labels_name_the_role_only_where_there_is_room() -> None:
    assert arm_label("random_reward") == "random reward"
    assert arm_label("fipo-two-sided") == "fipo-two-sided"
