import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.__main__ import main
from harness.config.loss import LossSettings
from harness.preflight.reading import read_launch
from harness.preflight.rules import SENTENCES, findings
from harness.preflight.tables import TABLES
from harness.preflight.terms import terms_of
from tests.harness.command_line import outcome

LAUNCHES = Path(__file__).parent / "launches"
VERL = "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref.rollout.n=8 "
VERL += "actor_rollout_ref.actor.optim.lr=1e-6 actor_rollout_ref.actor."
SWIFT = "swift rlhf --rlhf_type grpo --beta 0 --learning_rate 1e-6 --num_generations 4 --per_device_train_batch_size 4 "
TRL = "trl grpo --learning_rate 1e-6 --num_iterations 2 "
FOUND = {  # of the published settings, then of planted faults: code and line, E error, W warning, N note
    "dapo_32b.sh": "N micro_means 30",
    "fipo_32b.sh": "W safety_idle 53, W micro_means 30, W dead 48, W dead 49, W dead 50",
    "fipo_swift.sh": "E swift_refuses 25",
    "clean_verl.sh": "",
    "clean_trl.yaml": "",
    "clean_swift.sh": "",
    "planted_verl.sh": "E cut_off 13, E group_of_one 2, E misspelt 11, W inert_clip 6, W dead 7, W unread 8, "
    "W clip_ratio 5",
    "planted_verl.yaml": "E no_such_loss 14, E mini_above_batch 11, W padded_width 12, W two_kl 4, W penalises_all 18, "
    "W too_few_groups 5, N kl_default 13",
    "planted_trl.py": "W token_bounds 9, W high_below_low 10, W delta_in_clip 11, W gspo_average 6, W masks_most 16, "
    "W unread 17, N window 15, N rate_default 6",
    "planted_trl.sh": "E both_given 2, E groups_split 2, W inert_loss 1, W cispo_cap 1, N strangers 3",
    "planted_swift.sh": "E swift_refuses 4, E inert_fipo 4, W no_delta 4, W weights_free 6, W kl_default 1, "
    "W masks_most 9, W unread 7, N masked_divisor 9, N rate_default 1, N dead_groups 8",
    "planted_megatron.sh": "W safety_idle 3, W sequence_bounds 3, N gap 3, N dead_groups 2",
    VERL + "policy_loss.loss_mode=geo_mean": "W geo_mean_mean 1",
    VERL + "policy_loss.loss_mode=gspo": "W token_bounds 1, W gspo_average 1",
    VERL + "kl_loss_coef=0.01": "N switched_off 1",
    VERL + "clip_ratio_c=1.5": "",
    VERL + "ppo_mini_batch_size=1024 actor_rollout_ref.actor.use_rollout_log_probs=True": "",
    VERL + "ppo_mini_batch_size=1024": "N inert_clip 1",
    VERL + "policy_loss.clip_ratio_c=10": "E misspelt 1",
    VERL + "strategy=fsdp +trainer.gamma=1": "N strangers 1",  # another section's key
    VERL + "strategy=fsdp distillation.enabled=True actor_rollout_ref.rollout.n=1": "",
    VERL + "policy_loss.loss_mode=bypass_mode actor_rollout_ref.actor.clip_ratio_c=10": "",
    SWIFT + "--loss_type dapo --steps_per_generation 4": "W window 1",
    SWIFT + "--num_iterations 2 --overlong_filter true --multi_turn_scheduler maze": "",
    SWIFT + "--loss_type real --num_iterations 2": "E swift_refuses 1",
    SWIFT + "--loss_type bnpo --num_iterations 2": "W bnpo_mean 1",
    SWIFT + "--advantage_estimator rloo --num_iterations 2": "",
    SWIFT + "--num_iterations 2 --dynamic_sample true --num_generations 2": "N group_forecast 1",
    TRL + "--loss_type luspo": "W luspo_level 1",
    TRL + "--loss_type fipo": "E no_such_loss 1",
    TRL + "--loss_type sapo --epsilon 0.3 --epsilon_high 0.3": "W unread 1, W unread 1",
    TRL + "--learning_rat 1e-5 --max_completion_length 100 $MORE": "E misspelt 1, N gap 1",
    TRL + "\n--beta=$BETA": "E cut_off 2",
    TRL + "\n" + TRL: "N gap 2",  # one launch is read
    TRL + "--num_generations $N": "",
    "python -m verl.trainer.main_ppo --config-name=x algorithm.lam=1 actor_rollout_ref.actor.clip_ratio=0.3": "N gap 1",
}
ASKED = {"planted_verl.yaml": 0.05, "planted_swift.sh": 0.05, "planted_megatron.sh": 0.05}  # --accuracy
ASKED |= {name: 0.5 for name, found in FOUND.items() if "group_forecast" in found or "$N" in name}


@pytest.fixture
def launches(tmp_path: Path) -> Path:
    """The launches in a folder that has no file of settings above it."""
    return Path(shutil.copytree(LAUNCHES, tmp_path / "launches"))


@pytest.mark.parametrize("launch", FOUND)
def test_each_fault_is_found_at_its_line_and_nothing_else(launches: Path, launch: str) -> None:
    path = launches / launch if launch in {file.name for file in launches.iterdir()} else launches / "one.sh"
    if path.name == "one.sh":
        path.write_text(launch)
    found = findings(terms_of(read_launch(path)), ASKED.get(launch))
    assert ", ".join(f"{one.severity[0].upper()} {one.code} {one.line}" for one in found) == FOUND[launch]
    for one in found:
        assert one.path == path
        assert not {*"{}\0"} & {*(one.what + one.why + one.change)}


def test_every_finding_has_a_launch_that_gives_it() -> None:
    assert {one.split()[1] for found in FOUND.values() for one in found.split(", ") if one} == {*SENTENCES["findings"]}


def test_published_dapo_and_fipo_differ_in_more_than_the_loss(
    launches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [launches / "dapo_32b.sh", launches / "fipo_32b.sh"]
    done = outcome(main, ["preflight", *files, "--json"], capsys)
    read = json.loads("\n".join(done.printed))
    confounds = [one for one in read["differences"] if one["kind"] == "confound"]
    assert (done.exit_code, done.errors) == (1, [])
    assert [(one["name"], one["values"], one["lines"]) for one in confounds] == [
        ("responses per update", [512, 1024], [39, 39]),
        ("updates per rollout", [16, 8], [39, 39]),
        ("prompts per sampling round", [1536, 2048], [18, 18]),
    ]
    losses = {one["name"]: one["values"] for one in read["differences"] if one["kind"] == "loss"}
    assert losses["loss_type"] == ["dapo", "fipo"]
    assert losses["fipo_safety_threshold"] == [None, 10.0]
    assert not losses.keys() & {"epsilon", "epsilon_high", "delta", "beta", "averaging"}
    printed = "\n".join(outcome(main, ["preflight", *files], capsys).printed).replace(f"{launches}/", "")
    page = (Path(__file__).parents[3] / "docs/preflight.md").read_text(encoding="utf-8")
    example = re.search(r"^    \.\.\.\n(.*?)^\w", page, re.M | re.S)
    assert example is not None
    lines = [line.strip() for line in example[1].splitlines() if "--fipo_" not in line]  # these name Python's place
    assert len(lines) > 40
    assert {*lines} <= {line.strip() for line in printed.splitlines()}


def test_launches_of_two_libraries_are_compared(launches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = outcome(main, ["preflight", launches / "clean_trl.yaml", launches / "clean_swift.sh", "--json"], capsys)
    read = json.loads("\n".join(done.printed))
    rows = {one["name"]: one["values"] for one in read["differences"]}
    assert [one["settings"]["responses_per_update"] for one in read["launches"]] == [None, 128]
    assert {name: rows[name] for name in ("averaging", "delta", "beta", "updates per rollout")} == {
        "averaging": ["sequence_mean", "token_mean"],
        "delta": [None, 10],
        "beta": [0.0, 0.04],
        "updates per rollout": [2, 4],
    }


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("clean_verl.sh", 0),
        ("dapo_32b.sh", 0),
        ("planted_trl.py", 1),
        ("clean_swift.sh clean_swift.sh", 0),
        ("clean_swift.sh clean_trl.yaml", 1),
        ("missing.sh", 2),
        ("clean_verl.sh --accuracy 2", 2),
        ("clean_verl.sh --processes 0", 2),
        ("clean_verl.sh clean_verl.sh clean_verl.sh", 2),
    ],
)
def test_exit_codes_are_a_linters(launches: Path, capsys: pytest.CaptureFixture[str], words: str, code: int) -> None:
    arguments = [str(launches / word) if "." in word else word for word in words.split()]
    done = outcome(main, ["preflight", *arguments], capsys)
    assert (done.exit_code, len(done.errors), bool(done.printed)) == (code, code == 2, code != 2)


def test_our_settings_are_ours_for_every_loss_of_every_library(
    launches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = set()
    for library, head in {
        "verl": VERL + "policy_loss.loss_mode=",
        "trl": TRL + "--loss_type ",
        "ms-swift": SWIFT + "--loss_type ",
    }.items():
        for loss, row in TABLES[library].losses.items():
            (launches / "one.sh").write_text(head + loss)
            terms = terms_of(read_launch(launches / "one.sh"))
            assert LossSettings(**terms.loss).loss_type == row.get("type", "grpo")
            shown |= {
                line for line in outcome(main, ["preflight", launches / "one.sh"], capsys).printed if "in ours" in line
            }
    assert len(shown) > 12
    assert any(
        line.endswith("show --loss_type cispo --cispo_ratio_max 0.2 --advantage_std_eps 0.0001") for line in shown
    )


def test_nothing_heavy_is_imported_and_nothing_of_the_launch_is_run(launches: Path) -> None:
    (launches / "planted_trl.py").write_text("raise SystemExit(9)\nGRPOConfig(beta=open('x', 'w'))\n")
    (launches / "run.sh").write_text("touch x\ntrl grpo --beta $(touch x)\n")
    for name in ("planted_trl.py", "run.sh"):
        code = f"import sys; from harness.__main__ import main\ntry: main(['preflight', {str(launches / name)!r}])\n"
        code += "finally: print(sorted({'torch', 'numpy', 'trl', 'transformers'} & sys.modules.keys()))"
        words = [sys.executable, "-c", code]
        printed = subprocess.check_output(words, text=True, cwd=Path(__file__).parents[3]).splitlines()
        assert printed[-1] == "[]"
    assert not (launches / "x").exists()


def test_the_nearest_key_is_proposed_and_a_constant_schedule_is_no_averaging(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = (VERL + "clip_ratio_hi=0.3", VERL + "optim.lr_scheduler_type=cosine")
    files = [tmp_path / name for name in ("one.sh", "two.sh")]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    found = outcome(main, ["preflight", *map(str, files)], capsys)
    said = "\n".join(found.printed)
    assert "actor.clip_ratio_high is meant?" in said
    assert re.search(r"schedule of the rate +constant +cosine", said)
