"""TRL's GRPOTrainer (loss_type dapo, transformers' generate) taking whole training steps on request, one thread.

python -P benchmarks/step/trl.py SPEC, in an environment that has TRL: a line of JSON for each line of input.
"""

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TRL and what it imports warn of each other
    import datasets
    from trl import GRPOConfig, GRPOTrainer


class Counting(GRPOTrainer):  # type: ignore[misc]
    """Counts the tokens that it trains on, and those of their prompts."""

    trained = prompted = 0

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        outputs = super()._generate_and_score_completions(inputs)
        self.trained += int(outputs["completion_mask"].sum())
        self.prompted += int(outputs["prompt_mask"].sum())
        return outputs


class OnRequest(transformers.TrainerCallback):
    """Between two rollouts: says what the last one and its updates took, and waits for a line."""

    def __init__(self, updates: int) -> None:
        self.updates = updates
        self.trainer: Any = None
        self.began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ARG002
        """An update of the optimizer begins."""
        if state.global_step % self.updates:
            return control
        if state.global_step:
            self.tell()
        if not sys.stdin.readline():
            control.should_training_stop = True
        self.trainer.trained = self.trainer.prompted = 0
        self.began = time.process_time()
        return control

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """The last step has no next one to begin."""
        self.tell()

    def tell(self) -> None:
        """CPU seconds and tokens since the step began."""
        counts = {"trained_tokens": self.trainer.trained, "prompt_tokens": self.trainer.prompted}
        print(json.dumps({"cpu_s": time.process_time() - self.began} | counts), flush=True)


def constant(completions: list[str], **_: Any) -> list[float]:
    """A reward that costs nothing and is not the same for all."""
    return [float(len(text) % 2) for text in completions]


def trainer(spec: dict[str, Any], folder: Path) -> GRPOTrainer:
    """The trainer that the spec asks for."""
    settings = spec["settings"]
    updates = settings["minibatches"]
    arguments = GRPOConfig(
        output_dir=str(folder),
        loss_type="dapo",
        per_device_train_batch_size=settings["prompts_per_step"] * settings["group_size"] // updates,
        gradient_accumulation_steps=1,
        steps_per_generation=updates,
        num_generations=settings["group_size"],
        max_completion_length=settings["max_response_tokens"],
        max_steps=len(spec["prompts"]) * updates,
        temperature=1.0,
        epsilon_high=settings["epsilon_high"],
        learning_rate=settings["lr"],
        weight_decay=0.1,
        lr_scheduler_type="constant",
        generation_kwargs={} if spec["is_free"] else {"suppress_tokens": spec["end_ids"]},
        shuffle_dataset=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(settings["model"])
    data = datasets.Dataset.from_dict({"prompt": [prompt for prompts in spec["prompts"] for prompt in prompts]})
    callback = OnRequest(updates)
    made = Counting(model, constant, arguments, data, processing_class=tokenizer, callbacks=[callback])
    callback.trainer = made
    return made


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(folder)).train()
