"""python -m benchmarks.scale [--save]: a model of half a billion parameters trained on long responses, phase by phase.

The model has the shape of Qwen2.5-0.5B and random weights, so that nothing is downloaded and responses are as long as
they may be. `--small` is the same on a laptop's model, to see that it runs. Other flags go to the run: --engine vllm.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.table import Row, printed, saved
from harness.cli.parser import OneLineParser, run_command
from harness.model.policy import Policy, write_policy
from harness.run.tiny_model import character_tokenizer

ROOT = Path(__file__).resolve().parents[1]
QWEN_0_5B: dict[str, Any] = {  # https://huggingface.co/Qwen/Qwen2.5-0.5B, config.json
    "vocab_size": 151936,
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
}
SMALL: dict[str, Any] = QWEN_0_5B | {
    "vocab_size": 1000,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
}
RUN = {"loss_type": "fipo", "delta": 10, "epsilon_high": 0.28, "warmup_steps": 0, "lr": 1e-6, "minibatches": 2}
RUN |= {"gradient_checkpointing": "true", "eval_every": 1000, "eval_prompts": 1, "final_eval_samples": 1}
PHASES = ("rollout", "logprobs", "update", "sync", "record")
TRAIN = """
import json, sys, torch
from harness.__main__ import main
main(sys.argv[2:])
peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
if peak: open(sys.argv[1], "w").write(json.dumps(peak))
"""


def main(arguments: list[str]) -> None:
    """Print the table, and keep it where asked."""
    parser = OneLineParser(prog="python -m benchmarks.scale", allow_abbrev=False, description="Training at scale.")
    parser.add_argument("--steps", type=int, default=20, help="training steps (default: 20)")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens per response (default: 4096)")
    parser.add_argument("--small", action="store_true", help="a model of 0.2 million parameters in its place")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options, more = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = rows(Path(folder), options, more)
    print(printed(found))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.save:
        print(f"saved: {saved(found, device, 'scale')}")


def rows(folder: Path, options: Any, more: list[str]) -> list[Row]:
    """Train, and read what the run recorded."""
    write_model(folder / "model", SMALL if options.small else QWEN_0_5B)
    sizes = {"prompts_per_step": 8, "group_size": 8, "micro_batch_size": 4, "steps": options.steps}
    flags = RUN | sizes | {"max_response_tokens": options.tokens, "model": folder / "model"}
    flags |= {"dtype": "bfloat16" if torch.cuda.is_available() else "float32", "output_dir": folder / "run"}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-c", TRAIN, str(folder / "peak"), "train", *words, *more]
    subprocess.run(command, cwd=ROOT, check=True)
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = lines[1:] or lines  # the first step warms caches up
    seconds = {phase: sum(line[f"time/{phase}_s"] for line in lines) for phase in PHASES}
    total = sum(seconds.values())
    tokens = sum(line["rollout/response_tokens_mean"] for line in lines) * 64
    found = [Row(f"share of {phase}", 100 * spent / total, "%") for phase, spent in seconds.items()]
    found.append(Row("generated tokens per second of rollout", tokens / seconds["rollout"], ""))
    found.append(Row("tokens per second of a step", tokens / total, ""))
    found.append(Row("seconds per step", total / len(lines), "s"))
    if (folder / "peak").is_file():
        found.append(Row("peak memory of the trainer", json.loads((folder / "peak").read_text("utf-8")), "MiB"))
    return found


def write_model(folder: Path, shape: dict[str, Any]) -> None:
    """A Qwen2 of random weights with the task's tokenizer, in bfloat16."""
    tokenizer = character_tokenizer()
    settings = transformers.Qwen2Config(
        tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, **shape
    )
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(settings).bfloat16()
    folder.mkdir()
    write_policy(folder, Policy(model, tokenizer, frozenset({tokenizer.eos_token_id})))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("harness",)))
