"""The committed reference run. `python -m tests.harness.reference` makes it anew, where other numbers are meant."""

import shutil
from pathlib import Path

from harness.cli.train import print_warm_start
from harness.config.resolve import resolve
from harness.loop import train
from tests.harness.runs import ignore

REFERENCE = Path(__file__).parents[1] / "reference" / "fipo"
SETTINGS = {
    "loss_type": "fipo",
    "epsilon_high": 0.28,
    "beta": 0.01,
    "steps": 3,
    "prompts_per_step": 8,
    "minibatches": 4,
    "max_response_tokens": 48,
    "overlong_buffer": 8,
    "warmup_steps": 1,
    "eval_prompts": 16,
    "eval_samples": 1,
    "final_evaluations": 1,
    "final_eval_samples": 2,
}

if __name__ == "__main__":
    shutil.rmtree(REFERENCE, ignore_errors=True)
    train(resolve(SETTINGS, preset="demo"), REFERENCE, ignore, print_warm_start)
