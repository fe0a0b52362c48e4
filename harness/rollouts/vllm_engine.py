"""A vLLM engine in this process, one per rank, which shares the device with the trainer.

vLLM needs a separate Python environment (docs/cluster.md). These settings were tested with version 0.32.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.backends.phases import progress
from harness.config.schema import Config
from harness.model.lora import exported
from harness.model.policy import Policy, write_policy
from harness.randomness import stream
from harness.rollouts.engine import Key, Weights
from harness.rollouts.sampler import Sample, Sampling

CPU_BATCHED_TOKENS = 8192
CPU_CACHE_BYTES = 2**30  # fixed, because vLLM's own sizing on a CPU counts the process's memory as cache


@dataclass
class VllmEngine:
    """A vLLM engine. While asleep it holds neither weights nor cache on the device."""

    llm: Any
    end_ids: list[int]
    is_gpu: bool
    is_asleep: bool = False
    needs_weights = True

    @classmethod
    def start(cls, policy: Policy, config: Config, is_gpu: bool) -> "VllmEngine":
        """Start an engine with the policy's current weights."""
        os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        from vllm import LLM

        with tempfile.TemporaryDirectory(prefix="fipo-harness-") as folder:
            write_policy(Path(folder), policy, dict(exported(policy.model)))
            llm = LLM(model=folder, **engine_settings(policy, config, is_gpu))
        return cls(llm, sorted(policy.end_ids), is_gpu)

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        """Sample all requests in one call, each with its own seed."""
        from vllm import SamplingParams

        per_prompt = len(keys) // len(prompts)
        asked = [{"prompt_token_ids": prompts[place // per_prompt]} for place in range(len(keys))]
        wanted = [
            SamplingParams(
                seed=int(stream(*key, "vllm").integers(2**31)),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                stop_token_ids=self.end_ids,
                logprobs=0,
                detokenize=False,
            )
            for key in keys
        ]
        self.wake()
        return [sample_of(answer.outputs[0]) for answer in self.llm.generate(asked, wanted, use_tqdm=False)]

    def load_weights(self, weights: Weights) -> None:
        """Load the tensors, repair a tied head, and empty the prefix cache."""
        copied = ((name, tensor.detach().clone()) for name, tensor in weights)
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": copied})
        if not self.is_gpu:
            self.llm.apply_model(pack_head)
        self.llm.reset_prefix_cache()

    def sleep(self) -> None:
        """Move weights to host memory and drop the cache; a no-op on a CPU."""
        if self.is_gpu and not self.is_asleep:
            self.llm.sleep(level=1)
            self.is_asleep = True

    def wake(self) -> None:
        if self.is_asleep:
            torch.cuda.empty_cache()  # vLLM cannot use the blocks that torch's allocator has cached
            self.llm.wake_up()
            self.is_asleep = False

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()


def engine_settings(policy: Policy, config: Config, is_gpu: bool) -> dict[str, Any]:
    """The keyword arguments of vLLM's LLM that follow from the config."""
    limit = config.rollout.max_response_tokens
    most = limit + config.data.max_prompt_tokens
    length = min(getattr(policy.model.config, "max_position_embeddings", most), most)
    several = config.backend.backend == "deepspeed"
    settings: dict[str, Any] = {
        "dtype": config.model.dtype,
        "seed": config.run.seed,
        "max_model_len": length,
        "gpu_memory_utilization": config.engine.engine_memory,
        "distributed_executor_backend": "external_launcher" if several else "uni",
        "logprobs_mode": "processed_logprobs",  # at the sampling temperature, like the trainer's
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if is_gpu:
        return settings | {"enable_sleep_mode": True}
    # with chunked prefill vLLM's CPU build crashes on requests that have seeds
    batched = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(CPU_BATCHED_TOKENS, length)}
    return settings | {"enforce_eager": True, "kv_cache_memory_bytes": CPU_CACHE_BYTES} | batched


def sample_of(output: Any) -> Sample:
    """The sample of a finished request. Its entropy is estimated by the tokens' surprisal, which has the same mean."""
    tokens = list(output.token_ids)
    logprobs = [float(known[token].logprob) for token, known in zip(tokens, output.logprobs, strict=True)]
    progress()
    return Sample(tokens, -sum(logprobs), output.finish_reason == "length", logprobs)


def pack_head(model: torch.nn.Module) -> None:
    """Repack the output head for the CPU kernel, because reloading does not update a tied head (vLLM 0.32)."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    dispatch_cpu_unquantized_gemm(model.lm_head, remove_weight=False)
