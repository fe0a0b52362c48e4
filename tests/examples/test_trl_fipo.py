"""FIPO in TRL's own trainer: `make test-examples`, in an environment of its own."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("trl", reason="make test-examples has an environment of its own for it")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    from docs.examples.trl_fipo import FIPOTrainer

from losses import DAPO, FIPO, LossBatch, token_weights
from tests.losses.agreement import Numbers, disagreements

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL and what it imports warn of each other

LETTERS = "abcdefghijklmnop"
VOCABULARY = {"<pad>": 0, "<eos>": 1} | {letter: 2 + index for index, letter in enumerate(LETTERS)}
PROMPT, RESPONSE, ROWS, ROWS_EACH = 3, 40, 8, 2  # tokens of a prompt and of a response; of a rollout and a micro-batch
UNIT: dict[str, Any] = {"clip_range": 1e-12}  # in float32 every influence weight is 1
BOTH_SIDES: dict[str, Any] = {"clip_high_only": False}
CLIP: dict[str, Any] = {"epsilon": 0.2, "epsilon_high": 0.28, "delta": 3.0}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def model() -> Qwen2ForCausalLM:
    """The same untrained model at every call, in float64."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = shape | {"num_key_value_heads": 1, "vocab_size": len(VOCABULARY), "max_position_embeddings": 64}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, pad_token_id=0, eos_token_id=1, initializer_range=0.3)).double()


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each letter."""
    letters = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<pad>"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="<eos>")


def share_of_a(completions: list[str], **_: Any) -> list[float]:
    """The reward: how much of a response is the first half of the letters."""
    return [sum(letter in LETTERS[:8] for letter in text) / max(len(text), 1) for text in completions]


def trainer(folder: Path, kind: type[GRPOTrainer] = FIPOTrainer, fipo: Any = None, **changes: Any) -> Any:
    """A trainer of the kind on the CPU; by default a rollout of 8 responses makes two steps of two micro-batches."""
    size = {"per_device_train_batch_size": ROWS_EACH, "num_generations": 4, "max_completion_length": 12}
    steps = {"gradient_accumulation_steps": 2, "steps_per_generation": 4, "max_steps": 2}
    steps |= {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}  # a loss of another scale trains otherwise
    quiet = {
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }
    args = GRPOConfig(output_dir=str(folder), **size | steps | quiet | CLIP | changes)
    data = Dataset.from_dict({"prompt": [LETTERS[i : i + PROMPT] for i in range(8)]})
    settings = {"fipo": fipo} if kind is FIPOTrainer else {}
    policy = model()
    policy.config._name_or_path = str(folder)  # where TRL looks for a reference policy
    made = kind(policy, share_of_a, args, data, processing_class=tokenizer(), **settings)
    made.current_gradient_accumulation_steps = made.args.gradient_accumulation_steps  # set by train(), else
    return made


def rollout() -> dict[str, Tensor]:
    """A drawn rollout as TRL hands it on, and old log-probabilities from which the policy has moved."""
    drawn = torch.Generator().manual_seed(1)
    ids = torch.randint(2, len(VOCABULARY), (ROWS, PROMPT + RESPONSE), generator=drawn)
    mask = (torch.arange(RESPONSE) < torch.randint(1, RESPONSE + 1, (ROWS, 1), generator=drawn)).int()
    old = logprobs(model(), ids).detach() - 0.8 * torch.randn(ROWS, RESPONSE, generator=drawn)
    return {
        "prompt_ids": ids[:, :PROMPT],
        "prompt_mask": torch.ones(ROWS, PROMPT, dtype=torch.int),
        "completion_ids": ids[:, PROMPT:],
        "completion_mask": mask,
        "advantages": torch.randn(ROWS, generator=drawn),
        "old_per_token_logps": old,
    }


def logprobs(policy: Any, ids: Tensor) -> Tensor:
    """The response tokens' log-probabilities, without TRL."""
    logits = policy(input_ids=ids, use_cache=False).logits[:, PROMPT - 1 : -1]
    return logits.log_softmax(-1).gather(-1, ids[:, PROMPT:, None]).squeeze(-1)


def of_trl(made: Any, rows: dict[str, Tensor]) -> Numbers:
    """The losses of the rollout's micro-batches added up, and their gradient, by the trainer."""
    total = {"num_items_in_batch": rows["completion_mask"].sum()}
    parts = [{name: values[i : i + ROWS_EACH] for name, values in rows.items()} for i in range(0, ROWS, ROWS_EACH)]
    made.model.train()
    losses = [made.compute_loss(made.model, part | total) for part in parts]
    return with_gradient(torch.stack(losses).sum(), made.model)


def of_ours(loss: FIPO | DAPO, rows: dict[str, Tensor], correction: Tensor | float = 1.0) -> Numbers:
    """The loss of the whole rollout under our token weights, and its gradient, without TRL."""
    policy, mask = model(), rows["completion_mask"].bool()
    found = logprobs(policy, torch.cat([rows["prompt_ids"], rows["completion_ids"]], 1))
    advantages = rows["advantages"][:, None].expand_as(found)
    token_loss = loss(LossBatch(found, rows["old_per_token_logps"], advantages, mask)).token_loss
    return with_gradient((token_loss * correction * token_weights(mask, "token_mean")).sum(), policy)


def with_gradient(loss: Tensor, policy: Any) -> Numbers:
    """The loss beside its gradient by the policy's parameters."""
    found = torch.autograd.grad(loss, list(policy.parameters()))
    return {"loss": loss, "gradient": torch.cat([each.flatten() for each in found])}


def times(factor: float, numbers: Numbers) -> Numbers:
    return {name: factor * values for name, values in numbers.items()}


def equal(ours: Numbers, theirs: Numbers) -> bool:
    """Whether both agree: whatever the model's dtype, TRL's log-probabilities are float32."""
    return not disagreements(ours, theirs, "float32_sum")


@pytest.mark.parametrize("settings", [{}, {"clip_high_only": False, "safety_threshold": 1.5, "decay_rate": 8.0}])
def test_loss_and_gradient_are_ours(tmp_path: Path, settings: dict[str, Any]) -> None:
    ours = of_ours(FIPO(epsilon_low=0.2, epsilon_high=0.28, delta=3.0, **settings), rollout())
    whole = trainer(tmp_path, fipo=settings, gradient_accumulation_steps=4, num_iterations=2)
    assert equal(of_trl(whole, rollout()), ours)
    # two steps of half the rollout: both together have twice the weight of the rollout's mean
    assert equal(of_trl(trainer(tmp_path, fipo=settings), rollout()), times(2.0, ours))


def test_unit_weights_are_trls_dapo(tmp_path: Path) -> None:
    theirs = of_trl(trainer(tmp_path, GRPOTrainer), rollout())
    assert equal(of_trl(trainer(tmp_path, fipo=UNIT), rollout()), theirs)
    assert not equal(of_trl(trainer(tmp_path), rollout()), theirs)


def test_masked_tool_tokens_and_vllms_correction_are_trls(tmp_path: Path) -> None:
    drawn = torch.Generator().manual_seed(2)
    more = {"tool_mask": (torch.rand(ROWS, RESPONSE, generator=drawn) > 0.3).int()}
    more["importance_sampling_ratio"] = 0.5 + torch.rand(ROWS, 1, generator=drawn)
    theirs = trainer(tmp_path, GRPOTrainer)
    theirs.use_vllm = True  # whose rollouts carry the correction; nothing else is asked of vLLM here
    assert equal(of_trl(trainer(tmp_path, fipo=UNIT), rollout() | more), of_trl(theirs, rollout() | more))
    assert not equal(of_trl(trainer(tmp_path, fipo=UNIT), rollout()), of_trl(theirs, rollout() | more))


def test_evaluation_has_trls_scale(tmp_path: Path) -> None:
    rows = rollout() | {"num_items_in_batch": rollout()["completion_mask"].sum()}
    found = []
    for kind, settings in ((FIPOTrainer, UNIT), (GRPOTrainer, None)):
        made = trainer(tmp_path, kind, fipo=settings)
        made.model.eval()
        found.append(with_gradient(made.compute_loss(made.model, rows), made.model))
    assert equal(*found)


@pytest.mark.parametrize(
    "changes",
    [
        {"beta": 0.04},
        {"loss_type": "grpo"},
        {"importance_sampling_level": "sequence"},
        {"top_entropy_quantile": 0.2},
        {"entropy_coef": 0.01},
        {"use_adaptive_entropy": True},
        {"off_policy_mask_threshold": 0.5},
    ],
)
def test_what_is_left_out_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    model().save_pretrained(tmp_path)  # TRL loads the reference policy where beta is not 0
    (name,) = changes
    with pytest.raises(ValueError, match=f"leaves {name} out: expected .*, got"):
        trainer(tmp_path, **changes)


def test_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got pixel_values"):
        of_trl(trainer(tmp_path), rollout() | {"pixel_values": torch.zeros(ROWS, 1)})


@pytest.mark.parametrize("steps_per_generation", [None, 4, 2])
def test_one_step_per_rollout_is_refused(tmp_path: Path, steps_per_generation: int | None) -> None:
    changes = {"gradient_accumulation_steps": 4, "steps_per_generation": steps_per_generation}
    with pytest.raises(ValueError, match="one step per rollout makes FIPO DAPO"):
        trainer(tmp_path, **changes)
    # not one step: then TRL keeps the old log-probabilities, and so does the FIPO trainer take them
    assert trainer(tmp_path, **changes, num_iterations=3).num_iterations == 3


def trained(made: Any) -> tuple[Numbers, list[dict[str, float]]]:
    """The weights after training, and the logged lines of its steps."""
    made.train()
    weights = {name: values.detach().clone() for name, values in made.model.state_dict().items()}
    return weights, [line for line in made.state.log_history if "loss" in line]


@pytest.mark.train
def test_training_moves_weights_as_trls_dapo_does_where_influence_weights_are_one(tmp_path: Path) -> None:
    fipo, lines = trained(trainer(tmp_path, fipo=BOTH_SIDES))
    unit, _ = trained(trainer(tmp_path, fipo=UNIT))
    dapo, _ = trained(trainer(tmp_path, GRPOTrainer))
    start = {name: values.detach() for name, values in model().state_dict().items()}
    assert len(disagreements(start, fipo, "float32_sum")) > len(start) / 2
    assert not disagreements(unit, dapo, "float32_sum")
    assert disagreements(fipo, dapo, "float32_sum")
    assert [line["fipo/influence_weight_moved"] > 0 for line in lines] == [False, True]
    assert lines[0]["fipo/influence_weight"] == 1
    assert 0.8 < lines[1]["fipo/influence_weight"] < 1.2


@pytest.mark.train
def test_two_processes_train_as_trls_dapo_does_where_influence_weights_are_one(tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    fipo, unit, dapo = (torch.load(tmp_path / f"{name}.pt") for name in ("fipo", "unit", "dapo"))
    assert not disagreements(unit, dapo, "float32_sum")
    assert disagreements(fipo, dapo, "float32_sum")


def train_in_this_process(folder: Path) -> None:
    """One of the processes of the test above: three trainings, whose weights the first process writes."""
    torch.set_num_threads(1)
    for name, kind, fipo in (
        ("fipo", FIPOTrainer, BOTH_SIDES),
        ("unit", FIPOTrainer, UNIT),
        ("dapo", GRPOTrainer, None),
    ):
        made = trainer(folder, kind, fipo=fipo)
        assert made.accelerator.num_processes == 2
        weights, _ = trained(made)
        if made.accelerator.is_main_process:
            # one process among several wraps the model, and so names its weights otherwise
            torch.save({key.removeprefix("module."): values for key, values in weights.items()}, folder / f"{name}.pt")


if __name__ == "__main__":
    train_in_this_process(Path(sys.argv[1]))
