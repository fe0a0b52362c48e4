import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.__main__ import main
from harness.config.loss import LossSettings
from harness.preflight.reading import read_launch
from harness.preflight.rules import FINDINGS, findings
from harness.preflight.tables import TABLES
from harness.preflight.terms import terms_of
from tests.harness.command_line import outcome

VERL = "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref.rollout.n=8 "
VERL += "actor_rollout_ref.actor.use_dynamic_bsz=True actor_rollout_ref.actor.optim.lr=1e-6 actor_rollout_ref.actor."
SPLIT = VERL.replace("actor.use_dynamic_bsz=True", "rollout.log_prob_micro_batch_size_per_gpu=8")
SWIFT = "swift rlhf --rlhf_type grpo --beta 0 --learning_rate 1e-6 --num_generations 4 --per_device_train_batch_size 4 "
MEGATRON = "megatron rlhf --rlhf_type grpo --beta 0 --lr 1e-6 "
PYTHON = "GRPOConfig(num_iterations=2, learning_rate=1, none_such=1)"
TRL = "trl grpo --learning_rate 1e-6 --num_iterations 2 "
FOUND = {  # of the published settings, then of planted faults: code and line, E error, W warning, N note
    "dapo_32b.sh": "N micro_means 30",
    "fipo_32b.sh": "W safety_idle 53, W micro_means 30, W dead 48, W dead 49, W dead 50",
    "fipo_swift.sh": "E swift_refuses 25",
    "clean_verl.sh": "",
    "clean_trl.yaml": "",
    "clean_swift.sh": "",
    "planted_verl.sh": "E cut_off 13, E group_of_one 2, E no_such_key 11, W inert_clip 6, W dead 7, W unread 8, "
    "W clip_ratio 5",
    "planted_verl.yaml": "E mini_above_batch 11, E micro_missing 1, E micro_missing 1, E micro_missing 1, "
    "E no_such_loss 14, W padded_width 12, W penalises_all 18, "
    "W too_few_groups 5, N kl_default 13",
    "planted_trl.py": "E delta_inside 11, W token_bounds 9, W gspo_average 6, W masks_most 16, W unread 17, "
    "N window_approximate 15, N rate_default 6",
    "planted_trl.sh": "E groups_split 2, W inert_loss 1, W cispo_cap 1, N strangers 3",
    "planted_swift.sh": "E swift_refuses 4, E inert_fipo 4, W no_delta 4, W weights_free 6, W kl_default 1, "
    "W masks_most 9, W unread 7, N rate_default 1, N dead_groups 8",
    "planted_megatron.sh": "E swift_refuses 1, W safety_idle 3, W sequence_bounds 3, N gap 3, N dead_groups 2",
    VERL + "policy_loss.loss_mode=gspo": "W token_bounds 1, W gspo_average 1",
    VERL + "kl_loss_coef=0.01": "N switched_off 1",
    VERL + "ppo_mini_batch_size=1024 actor_rollout_ref.actor.use_rollout_log_probs=True": "",
    VERL + "ppo_mini_batch_size=300": "W mini_uneven 1",
    VERL + "ppo_mini_batch_size=300 +a.fork=1": "N mini_uneven 1, N strangers 1",
    VERL + "ppo_mini_batch_size = 256": "N gap 1, N gap 1, N gap 1",
    VERL + "strategy=fsdp +reward_model.overlong_buffer.len=99 +algo.x=1": "W dead 1, N switched_off 1, N strangers 1",
    VERL + "strategy=fsdp distillation.enabled=True actor_rollout_ref.rollout.n=1": "",
    VERL + "policy_loss.loss_mode=bypass_mode actor_rollout_ref.actor.clip_ratio_c=10": "",
    VERL + "clip_ratio_low=$LOW": "N unknown 1",
    "A=1\r\n" + VERL + "clip_ratio_c=1.5\r\n": "E carriage_returns 2",
    'A=1\nsrun bash -lc "cd x;\n'
    + VERL
    + 'kl_loss_coef=0.01 \\\n  actor_rollout_ref.actor.tau_pos=2 data.x=\\"y\\""': (
        "W unread 4, N switched_off 3, N strangers 4"
    ),
    "echo \"don't " + VERL + '"\n' + VERL + "strategy=fsdp": "",
    SWIFT + "--loss_type dapo --steps_per_generation 4": "W window 1",
    SWIFT + "--num_iterations 2 --overlong_filter true --multi_turn_scheduler maze": "",
    SWIFT + "--loss_type bnpo --num_iterations 2": "W bnpo_mean 1",
    SWIFT + "--num_iterations 2 --dynamic_sample true --num_generations 2": "N dead_groups 1",
    SWIFT + "--num_iterations 2 --lr 1e-5": "E no_such_key 1",
    MEGATRON + "--loss_type bnpo --steps_per_generation 4": "",
    MEGATRON + "--num_iterations 2 --learning_rate 1e-6 --gradient_accumulation_steps 4": "E megatron_iterations 1, "
    "E no_such_key 1, E no_such_key 1",
    TRL + "--loss_type fipo": "E no_fipo 1",
    TRL + "--loss_type daop": "E no_such_loss 1",
    TRL + "--loss_type sapo --epsilon 0.3 --epsilon_high 0.3": "W unread 1, W unread 1",
    TRL + "--learning_rat 4 --max_completion_lenght 100 $MORE": "E no_such_key 1, N gap 1",  # argparse knows beginnings
    TRL + "\n--beta=$BETA": "E cut_off 2",
    "A=()\nif $1; then\n  A+=(--beta 1)\nfi\n" + TRL + '"${A[@]}"': "N gap 3",
    TRL + "\n" + TRL: "N gap 2",  # one launch is read
    TRL + "--num_generations $N": "N unknown 1",
    TRL + "--gradient_accumulation_steps 4 --steps_per_generation 1": "N inert_clip 1, N window_approximate 1",
    TRL + "--gradient_accumulation_steps 3 --steps_per_generation 1": "N window_approximate 1",  # 2 passes in 3 steps
    "python -m verl.trainer.main_ppo --config-name=x algorithm.lam=1 actor_rollout_ref.actor.clip_ratio=0.3": "N gap 1",
}
REFUSED = {  # values that no launch can mean, and sizes that do not divide
    VERL: """clip_ratio_c=1, clip_ratio_low=1.5, clip_ratio_low=-0.2, clip_ratio_high=-1, optim.lr=abc, optim.lr=0,
        optim.lr=null, ppo_mini_batch_size=0, ppo_epochs=-1, ppo_micro_batch_size_per_gpu=0, loss_agg_mode=token_mean,
        optim.lr=1 algorithm.adv_estimator=grop,
        use_kl_loss=maybe, grad_clip=1 data.train_batch_size=many, grad_clip=1 actor_rollout_ref.rollout.n=0,
        grad_clip=1 actor_rollout_ref.rollout.top_p=2, policy_loss.loss_mode=sapo actor_rollout_ref.actor.tau_pos=0""",
    SWIFT + "--num_iterations 2 ": """--num_generations 0, --gradient_accumulation_steps -2, --epsilon 1.5, --delta abc,
        --steps_per_generation 0, --max_completion_length 1.5, --importance_sampling_level word, --overlong_filter 2""",
    TRL: "--per_device_train_batch_size 0, --num_iterations 0, --temperature hot, --delta 0.9, --epsilon nan",
}
FOUND |= {head + words.strip(): "E invalid_value 1" for head, all in REFUSED.items() for words in all.split(",")}
FOUND |= {
    VERL + "clip_ratio_c=1.2": "N delta_inside 1",
    VERL + "policy_loss.loss_mode=clip_cov actor_rollout_ref.actor.clip_ratio_low=1": "",  # as its recipe has it
    SPLIT + "ppo_micro_batch_size=100": "E micro_uneven 1",
    SPLIT + "ppo_micro_batch_size_per_gpu=7 trainer.nnodes=$M": "E micro_uneven 1",
    SPLIT + "ppo_micro_batch_size_per_gpu=512": "E micro_uneven 1",
    VERL + "ppo_micro_batch_size_per_gpu=7": "",
    SPLIT + "use_kl_loss=True": "E micro_missing 1, E micro_missing 1, N kl_default 1",
    SPLIT + "ppo_micro_batch_size=256 +a.fork=1": "N strangers 1",
    SPLIT + "strategy=fsdp +a.fork=1": "N micro_missing 1, N strangers 1",
    SPLIT + "use_dynamic_bsz=$DYNAMIC": "",
    SPLIT + "ppo_micro_batch_size_per_gpu=256": "",
    SPLIT + "ppo_micro_batch_size_per_gpu=512 actor_rollout_ref.actor.ulysses_sequence_parallel_size=2": "",
    MEGATRON + "--micro_batch_size 3 --steps_per_generation 2": "E micro_uneven 1",
    "NPROC_PER_NODE=8 " + MEGATRON + "--micro_batch_size 4 --steps_per_generation 2": "E micro_uneven 1",
    "NPROC_PER_NODE=8 " + MEGATRON + "--micro_batch_size 4 --steps_per_generation 2 --context_parallel_size 2": "",
    TRL + "--num_processes 4 --generation_batch_size 40": "E micro_uneven 1, N window_approximate 1",
    "from my import GRPOConfig\n" + PYTHON: "N strangers 2",
    "from trl import GRPOConfig\n" + PYTHON: "E no_such_key 2",
    "accelerate launch --num_processes 0 a.py --num_iterations 2 --learning_rate 1": "E invalid_value 1",
    SWIFT + "--num_iterations 2 --beat 0.04 --none_such 1": "E no_such_key 1, E no_such_key 1",
    SWIFT + "--num_iterations 2 --ignore_args_error true --none_such 1": "N strangers 1",
    SWIFT + "--num_iterations 2 --soft_cache_length 64": "W switched_off 1",
    SWIFT + "--num_iterations 2 --soft_cache_length 64 --reward_funcs accuracy soft_overlong": "",
    SWIFT + "--num_iterations 2 --soft_cache_length 64 --reward_funcs mine --external_plugins a.py": "N switched_off 1",
    SWIFT + "--num_iterations 2 --delta 1.1 --epsilon_high 0.28": "E delta_inside 1",
    SWIFT + "--loss_type fipo --delta 9 --fipo_clip_range 1.5 --fipo_clip_high_only false --num_iterations 2": (
        "E swift_refuses 1, E invalid_value 1"
    ),
    "python train.py --num_iterations 2 --learning_rate 1e-6 --beat 1 --my_own 2": "E no_such_key 1, N strangers 1",
}
NO = "--no_dataloader_pin_memory --no-log-multimodal --no_gradient_check"  # HfArgumentParser's, and a beginning
FOUND |= {
    TRL + NO: "",
    TRL + "-- x": "N gap 1",
    TRL + "--=": "E no_such_key 1",
    TRL + "--no_bf16": "E no_such_key 1",  # whose default is none,
    TRL + "--no_use_peft": "E no_such_key 1",  # or false
    TRL + "--no_beta": "E no_such_key 1",
    TRL + "--no_shuffle_dataset true": "E no_such_key 1",
    TRL + "--no_log_multimodal=true": "E no_such_key 1",
    TRL + "--use_peft --lora-r 8": "",
    TRL + "--use_peft=false --lora_r 8": "W switched_off 1",
    TRL + "--use_peft no --lora_r 8": "W switched_off 1",
    TRL + "--use_peft=": "E invalid_value 1",
    SWIFT + "--num_iterations 2 --no_gradient_checkpointing --no-freeze-vit": "",
    SWIFT + "--num_iterations 2 --no_overlong_filter": "E no_such_key 1",
    SWIFT + "--num_iterations 2 --overlong_filter=1": "W masks_most 1",
    SWIFT + "--loss_type fipo --delta 9 --fipo_clip_range 1.5 --no_fipo_clip_high_only --num_iterations 2": (
        "E swift_refuses 1, E invalid_value 1"
    ),
    MEGATRON + "--steps_per_generation 2 --no_padding_free --no_save_optim true": "",
    "python train.py --num_iterations 2 --learning_rate 1e-6 --no_gradient_checkpointing": "",
}
ASKED = {"planted_verl.yaml": 0.05, "planted_swift.sh": 0.05, "planted_megatron.sh": 0.05}  # --accuracy
ASKED |= {name: 0.5 for name, found in FOUND.items() if "--dynamic_sample true --num" in name or "$N" in name}


@pytest.mark.parametrize("launch", FOUND)
def test_each_fault_is_found_at_its_line_and_our_command_runs(
    launches: Path, capsys: pytest.CaptureFixture[str], launch: str
) -> None:
    name = "one.py" if PYTHON in launch else "one.sh"
    path = launches / (launch if launch in {file.name for file in launches.iterdir()} else name)
    if path.name == name:
        path.write_bytes(launch.encode())
    found = findings(terms_of(read_launch(path)), ASKED.get(launch))
    assert ", ".join(f"{one.severity[0].upper()} {one.code} {one.line}" for one in found) == FOUND[launch]
    for one in found:
        assert one.path == path
        assert not {*"{}\0"} & {*(one.what + one.why + one.change)}
    printed = "\n".join(outcome(main, ["preflight", path], capsys).printed)
    if ours := re.search(r" -m harness (show(\s+--\w+ \S+)+)", printed):
        assert outcome(main, ours[1].split(), capsys).exit_code == 0, ours[1]


def test_every_finding_has_a_launch_that_gives_it() -> None:
    assert {one.split()[1] for found in FOUND.values() for one in found.split(", ") if one} == {*FINDINGS}


@pytest.mark.parametrize(
    ("start", "library"),
    [
        ("python3 -u -m verl.trainer.main_ppo", "verl"),
        ("torchrun --nproc_per_node 8 -m verl.trainer.main_ppo", "verl"),
        ("python3 verl/trainer/main_ppo.py", "verl"),
        ("ray job submit --runtime-env=env.yaml -- python3 -m verl.trainer.main_ppo", "verl"),
        ("trl grpo", "trl"),
        ("accelerate launch -m trl.scripts.grpo", "trl"),
        ("accelerate launch --multi_gpu --num_processes 8 train_grpo.py", "trl"),
        ("python -m torch.distributed.run --standalone swift/cli/rlhf.py --rlhf_type grpo", "ms-swift"),
        ("megatron rlhf --rlhf_type grpo", "megatron"),
    ],
)
def test_a_key_that_nothing_reads_is_found_however_a_launch_starts(tmp_path: Path, start: str, library: str) -> None:
    words = "actor_rollout_ref.rollout.n=8 +unheard.of=1" if library == "verl" else "--beta 0 --unheard_of 1"
    (tmp_path / "one.sh").write_text(f"{start} {words}")
    launch = read_launch(tmp_path / "one.sh")
    assert (launch.library, "unheard" in str([one.what for one in findings(terms_of(launch))])) == (library, True)


@pytest.mark.parametrize(
    ("command", "line"),  # of the page
    [
        (TRL + "--loss_type bnpo", "averaging   over the tokens of a micro-batch, then over micro-batches"),
        (TRL + "--loss_type dr_grpo", "averaging   by a constant: responses times 512"),
        (SWIFT + "--loss_type dapo --steps_per_generation 4", "averaging   over the tokens of an update, times 0.25"),
        (TRL + "--loss_type cispo --importance_sampling_level sequence", "ratio       of a response, to the policy"),
        (TRL, "nothing found in what is known"),
        (SWIFT, "updates     1 per rollout of 1 prompt x 4 responses"),
        (SWIFT + "--gradient_accumulation_steps 4 --steps_per_generation 2", "updates     1 per 2 rollouts of 2"),
        (MEGATRON, "change: raise steps_per_generation above 1"),
        (MEGATRON + "--num_generations $N", "2 notes"),
        (SWIFT + "--num_iterations 2", "nothing found"),
        (
            SWIFT + "--gradient_accumulation_steps 8 --steps_per_generation 3",
            "updates     3 per 8 rollouts of 3 prompts x",
        ),
        (
            SWIFT + "--generation_batch_size 256 --num_generations 7",
            "updates     64 per rollout of 256 responses, which do not",
        ),
        (SWIFT + "--beat 1", "change: write --beta"),
        (TRL + "--max_prompt_length 1", "change: leave it out, or run a version that has it"),
        (SWIFT + "--loss_type fopo", "change: take fipo, or a version"),
        (VERL + "policy_loss.loss_mode=grpo", "change: take vanilla, or a version"),
        (VERL + "policy_loss.loss_mode=gpso", "change: take gspo, or a version"),
        (VERL + "policy_loss.loss_mode=gae", "change: take one of vanilla, gpg"),
        (VERL + "policy_loss.loss_mode=fipo", "change: run the fork, with loss_mode future_kl"),
    ],
)
def test_the_page_says(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, line: str) -> None:
    (tmp_path / "one.sh").write_text(command)
    printed = outcome(main, ["preflight", tmp_path / "one.sh"], capsys).printed
    assert sum(one.strip().startswith(line) for one in "\n".join(printed).splitlines()) == 1, printed


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("dapo_32b.sh", 0),
        ("planted_trl.py", 1),
        ("clean_swift.sh clean_swift.sh", 0),
        ("clean_swift.sh clean_trl.yaml", 1),
        ("clean_verl.sh --accuracy 2", 2),
        ("clean_verl.sh --processes 0", 2),
        ("clean_verl.sh clean_verl.sh clean_verl.sh", 2),
    ],
)
def test_exit_codes_are_a_linters(launches: Path, capsys: pytest.CaptureFixture[str], words: str, code: int) -> None:
    arguments = [str(launches / word) if "." in word else word for word in words.split()]
    done = outcome(main, ["preflight", *arguments], capsys)
    assert (done.exit_code, len(done.errors), bool(done.printed)) == (code, code == 2, code != 2)


@pytest.mark.parametrize("names", [[""], [" "], ["clean_swift.sh", ""], ["", "clean_swift.sh"]])
def test_an_unset_variable_is_not_a_file_left_out(
    launches: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    done = outcome(main, ["preflight", *(str(launches / name) if name.strip() else name for name in names)], capsys)
    assert (done.exit_code, len(done.errors), done.printed) == (2, 1, [])
    assert outcome(main, ["show", ""], capsys).exit_code == 2


@pytest.mark.parametrize(
    ("library", "head"),
    [("verl", VERL + "policy_loss.loss_mode="), ("trl", TRL + "--loss_type "), ("ms-swift", SWIFT + "--loss_type ")],
)
def test_our_settings_are_ours_for_every_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], library: str, head: str
) -> None:
    for loss, row in TABLES[library].losses.items():
        (tmp_path / "one.sh").write_text(head + loss)
        settings = LossSettings(**terms_of(read_launch(tmp_path / "one.sh")).loss)
        assert settings.loss_type == row.get("type", "grpo")
        printed = "\n".join(outcome(main, ["preflight", tmp_path / "one.sh"], capsys).printed)
        assert (f"show --loss_type {settings.loss_type}" in printed) == ("type" in row)


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
