import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.preflight.reading import read_launch
from harness.preflight.shell import UNKNOWN, Shell
from harness.preflight.terms import terms_of

SCRIPT = r"""
set -e; A=0; A=1 B='two words' # a comment; not "this"
N=$((A + 2 * (7 - 3) / 2)) ; D=${UNSET_NAME:-"$A/b c"} E=${OTHER:=x${A}y}
LIST=(one "two $A" # in between
  'th$ree')
LIST+=(four)
cat <<EOF > /dev/null
show not this
EOF
if [ "$A" = 1 ]; then show branch; fi
show $B "$B" '$B' a\ b "a\"b\\c\$d" x"y"'z' "" "${LIST[@]}" end${A}\
ing --n=$N "$D" $E ${E} "${LIST[*]}" 2>&1 \
  last#one
OWN=3; OWN=4 show "$OWN" "x
y" && show after; (show inside) | cat
"""


def test_words_are_those_that_bash_gives() -> None:
    program = 'show() { printf "%s\\0" "$@"; printf "\\1"; }\n'
    bash = subprocess.run(["bash", "-c", program + SCRIPT], capture_output=True, text=True, check=True).stdout
    theirs = [command.split("\0")[:-1] for command in bash.split("\1")[:-1]]
    commands = [[word.text for word in command.words] for command in Shell(SCRIPT).commands()]
    assert [words[1:] for words in commands if words[0] == "show"] == theirs


def test_a_word_keeps_its_line_and_what_only_a_shell_knows_stays_unknown() -> None:
    script = 'A=1\nif [ -n "$1" ]; then\n  A=2\nfi\nfor X in 1 2; do :; done\nB=(a\n  b)\n'
    script += "go $A $X $(date) `date` $HOME/x \\\n"
    script += '  ${A%1} "$((A))" "${B[@]}" $((2 + 3)) "$@"'
    command = next(one for one in Shell(script).commands() if one.words[0].text == "go")
    unknown = [UNKNOWN] * 4 + [f"{UNKNOWN}/x"] + [UNKNOWN] * 2
    assert [word.text for word in command.words] == ["go", *unknown, "a", "b", "5", ""]
    assert [word.line for word in command.words] == [8] * 6 + [9] * 2 + [6, 7] + [9] * 2


GRPO = "python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref."
SWIFT = "swift rlhf --rlhf_type grpo "


@pytest.mark.parametrize(
    ("command", "expected"),  # our name of a quantity: its value
    [
        ("trl grpo", {"updates_per_rollout": 1, "loss_type": "dapo", "beta": 0.0, "responses_per_update": UNKNOWN}),
        ("trl grpo --steps-per-generation 6 --gradient_accumulation_steps 4", {"updates_per_rollout": 1.5}),
        ("trl grpo --steps_per_generation 2 --gradient_accumulation_steps 8", {"updates_per_rollout": 0.25}),
        ("trl grpo --scale_rewards none", {"advantage_scale": "none"}),
        ("trl grpo --scale_rewards True", {"advantage_scale": "group"}),
        (
            "accelerate launch --num_processes 4 t.py --generation_batch_size=128 --num_iterations 3 "
            "--num_generations 16",
            {"updates_per_rollout": 12, "responses_per_update": 32, "prompts_per_step": 8},
        ),
        ("trl grpo --importance_sampling_level sequence", {"loss_type": "gspo", "gspo_epsilon_high": 0.2}),
        (SWIFT + "--loss_type fipo --importance_sampling_level sequence", {"loss_type": "fipo"}),
        (SWIFT, {"advantage_scale": "group", "beta": 0.04, "lr": 1e-4, "temperature": 0.9, "responses_per_update": 1}),
        (
            f"NPROC_PER_NODE=4 {SWIFT} --sequence_parallel_size 2 --gradient_accumulation_steps 2 --tuner_type full "
            "--advantage_estimator rloo",
            {"updates_per_rollout": 2, "responses_per_update": 4, "lr": 1e-5, "advantage_scale": "rloo's, not ours"},
        ),
        (
            "megatron rlhf --rlhf_type grpo --steps_per_generation 4",
            {"updates_per_rollout": 4, "responses_per_update": 16, "lr": 1e-5},
        ),
        (
            GRPO + "actor.ppo_epochs=2 actor_rollout_ref.rollout.n=5",
            {"updates_per_rollout": 8, "responses_per_update": 1280, "prompts_per_step": 1024, "delta": 3.0},
        ),
        (GRPO + "actor.ppo_mini_batch_size=2048 actor_rollout_ref.rollout.n=2", {"responses_per_update": 2048}),
        (GRPO + "actor.ppo_mini_batch_size=300", {"updates_per_rollout": 4, "beta": 0.0}),  # the last one is smaller
        (
            GRPO + "actor.loss_agg_mode=seq-mean-token-mean actor_rollout_ref.actor.clip_ratio_high=null "
            "actor_rollout_ref.actor.clip_ratio=0.3 actor_rollout_ref.actor.use_kl_loss=True",
            {"loss_type": "grpo", "advantage_scale": "group", "epsilon_high": 0.3, "beta": 0.001},
        ),
        (
            "python -m verl.trainer.main_ppo actor_rollout_ref.actor.policy_loss.loss_mode=cispo "
            "actor_rollout_ref.actor.clip_ratio_low=10",
            {"cispo_ratio_min": 0.0, "cispo_ratio_max": 1.2, "advantage_scale": "gae's, not ours"},
        ),
        ("python -m verl.experimental.fully_async_policy.main algorithm.lam=1", {"updates_per_rollout": UNKNOWN}),
    ],
)
def test_a_launch_means_what_its_library_makes_of_it(tmp_path: Path, command: str, expected: dict[str, object]) -> None:
    (tmp_path / "launch.sh").write_text(command)
    terms = terms_of(read_launch(tmp_path / "launch.sh"))
    assert {name: terms.loss.get(name, terms[name]) for name in expected} == expected


def test_a_file_of_settings_is_found_above_the_launch_and_overridden_by_it(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/a.yaml").write_text("base: &b\n  beta: 0.1\n<<: *b\nlearning_rate: 2e-6\n")
    (tmp_path / "scripts").mkdir()
    launch = tmp_path / "scripts/launch.sh"
    launch.write_text("trl grpo --config $ROOT/recipes/a.yaml --beta 0.2")
    terms = terms_of(read_launch(launch))
    assert (terms["beta"], terms["lr"], terms["temperature"]) == (0.2, 2e-6, 1.0)
    launch.write_text("accelerate launch --num_processes=7 src/grpo.py --config recipes/a.yaml")
    assert (terms_of(read_launch(launch))["beta"], read_launch(launch).processes) == (0.1, 7)
    launch.write_text("trl grpo --config missing.yaml --beta 0.2")  # which may set anything else
    terms = terms_of(read_launch(launch))
    assert (terms["beta"], terms["lr"]) == (0.2, UNKNOWN)


@pytest.mark.parametrize(
    ("code", "expected", "unread"),  # key: its value; lines of what is not read
    [
        ("X = 0.5\nY = 1\nY = 2\nc = GRPOConfig('out', beta=X, epsilon=Y)", {"beta": 0.5, "epsilon": UNKNOWN}, []),
        ("for Y in (1, 2):\n  GRPOConfig(epsilon=Y, beta=2 * 8)", {"epsilon": UNKNOWN, "beta": 16}, []),
        ("B = 8\nG = B * 2\nGRPOConfig(num_generations=G, top_k=-1)", {"num_generations": 16, "top_k": -1}, []),
        ("from trl import GRPOConfig as C\na = C(beta=0.1)\na.beta = 1 / 2", {"beta": 0.5, "epsilon": 0.2}, []),
        ("import trl as t\na = t.GRPOConfig(beta=0.1)\nif x:\n  a.beta = 0.2", {"beta": UNKNOWN}, []),
        ("a = GRPOConfig(delta=f())\na.beta += 1\n", {"beta": UNKNOWN, "delta": UNKNOWN}, []),
        ("GRPOConfig(epsilon=0.1, **base)", {"beta": UNKNOWN, "epsilon": 0.1}, [1]),
        ("a = GRPOConfig(epsilon=0.1)\nsetattr(a, name, 1)", {"beta": UNKNOWN, "epsilon": UNKNOWN}, [2]),
        ("a: C = GRPOConfig(beta=0.1)\na = replace(a, beta=1)", {"beta": UNKNOWN}, [2]),
        (
            "D = load_dataset('c/d')\nM = load()\nGRPOTrainer(M, [f, g], GRPOConfig(beta=1), train_dataset=D)",
            {"model_name_or_path": "load()", "reward_funcs": "[f, g]", "dataset_name": "c/d"},
            [],
        ),
        ("a = GRPOConfig(beta=0.5)\nsetattr()", {"beta": 0.5}, []),
        ("GRPOConfig(beta=0.5)\n\nc = GRPOConfig(beta=1)", {"beta": 0.5}, [3]),
    ],
)
def test_in_python_what_is_written_out_is_taken_and_the_rest_is_said(
    tmp_path: Path, code: str, expected: dict[str, object], unread: list[int]
) -> None:
    (tmp_path / "a.py").write_text(code)
    launch = read_launch(tmp_path / "a.py")
    assert {key: terms_of(launch).value(key) for key in expected} == expected
    assert [line for _, line, _ in launch.unread] == unread


OWN = "python train.py --num_iterations 2 "


@pytest.mark.parametrize(
    ("command", "library", "program"),
    [
        ("trl grpo --run_name main_ppo", "trl", "trl grpo"),
        ("trl grpo --output_dir main_eval_x --model verl.trainer.main_ppo", "trl", "trl grpo"),
        ("trl grpo --run_name 'swift rlhf' --output_dir /x/swift rlhf --rlhf_type grpo", "trl", "trl grpo"),
        (SWIFT + "--run_name main_dapo.py --output_dir trl grpo", "ms-swift", "swift rlhf"),
        ("megatron rlhf --rlhf_type grpo --run_name swift rlhf", "megatron", "megatron rlhf"),
        (GRPO + "actor.x=1 trainer.experiment_name=main_eval", "verl", "verl.trainer.main_ppo"),
        (GRPO + "actor.x=1 trainer.default_local_dir=/x/main_generation", "verl", "verl.trainer.main_ppo"),
        (GRPO + "actor.x=1 data.train_files=/x/swift rlhf", "verl", "verl.trainer.main_ppo"),
        (OWN + "--model verl.trainer.main_ppo", "trl", "train.py"),
        (OWN + "--run_name trl grpo --output_dir /out/main_eval.py", "trl", "train.py"),
        ("python '/a b/train.py' --num_iterations 2", "trl", "/a b/train.py"),
        ("accelerate launch --x=a.py 'my dir/train.py' --num_iterations 2", "trl", "my dir/train.py"),
        ("python '/a b/run.py' actor_rollout_ref.rollout.n=8", "verl", "/a b/run.py"),
        ("python3 -m verl.trainer.main_ppo", "verl", "verl.trainer.main_ppo"),
        ("'/a b/trl' grpo", "trl", "/a b/trl grpo"),
        ("sbatch --job-name 'trl grpo' --wrap 'swift rlhf --rlhf_type grpo --beta 0'", "ms-swift", "swift rlhf"),
        ("trl sft --run_name trl grpo\nswift sft --output_dir swift rlhf\necho trl grpo\n" + OWN, "trl", "train.py"),
        ("torchrun --nproc_per_node=2 --module trl.scripts.grpo --beta 0", "trl", "trl.scripts.grpo"),
        ("python wrapper.py --nodes 2 trl grpo --beta 0", "trl", "trl grpo"),  # programs that start another
        ("python wrapper.py --verbose " + SWIFT, "ms-swift", "swift rlhf"),
        ("python -m debugpy --listen 5678 -m verl.trainer.main_ppo data.x=1", "verl", "verl.trainer.main_ppo"),
    ],
)
def test_the_program_is_no_argument_and_keeps_its_name(
    tmp_path: Path, command: str, library: str, program: str
) -> None:
    (tmp_path / "launch.sh").write_text(command)
    launch = read_launch(tmp_path / "launch.sh")
    assert (launch.library, launch.program) == (library, program)
    assert "another launch" not in str(launch.unread)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.sh", "echo verl"),
        ("a.sh", "python3 -m verl.trainer.main_generation actor_rollout_ref.rollout.n=1"),
        ("a.sh", "python3 verl/trainer/main_eval.py actor_rollout_ref.rollout.n=1"),
        ("a.sh", "swift rlhf --rlhf_type dpo --deepspeed ds.json"),
        ("a.sh", "git commit -m 'trl grpo'; trl dpo --output_dir trl grpo"),
        ("a.sh", "bash '/a b/b.sh'"),
        ("a.sh", "swift rollout --external_plugins grpo.py --num_generations 8"),
        ("a.sh", "trl grpo --beta 0 \\\n  --run_name 'x"),
        ("a.sh", "bash b.sh; accelerate launch --num_processes 4 trl_clean.py"),
        ("a.sh", b"\xff"),
        ("a.yaml", "a: [1"),
        ("a.yaml", "[" * 450 + "]" * 450),
        ("a.yaml", "num_generations: 8\nloss_type: &a grpo\n" + "".join(f"x{n}: *a\n" for n in range(17))),
        ("a.yaml", "learning: 1"),
        ("a.yaml", ""),
        ("a.py", "def f(:"),
        ("a.py", "f(1)"),
        ("missing.sh", None),
    ],
)
def test_what_is_no_launch_is_refused_in_one_line(tmp_path: Path, name: str, text: str | bytes | None) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=rf"^{tmp_path / name}:(2:)? expected .*, got .*: \w+ .*\w$") as error:
        read_launch(tmp_path / name)
    assert "\n" not in str(error.value)
    assert ("b.sh: name that" in str(error.value)) == ("b.sh" in str(text))
    assert ("starts /a b/b.sh" in str(error.value)) == ("/a b/b.sh" in str(text))
