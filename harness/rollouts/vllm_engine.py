"""A vLLM engine in this process, which shares the device with the trainer: one per rank, or one over several ranks.

vLLM needs a separate Python environment (docs/cluster.md). These settings were tested with version 0.32.
"""

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from harness.backends.phases import progress
from harness.backends.ranks import ALONE, Ranks
from harness.config.schema import Config
from harness.errors import UsageError, as_usage_error
from harness.files import cache_folder, whole_file
from harness.model.policy import Policy, companion_files
from harness.randomness import stream
from harness.rollouts.engine import Key, Weights
from harness.rollouts.sampler import Sample, Sampling

SHARED_MEMORY = Path("/dev/shm")  # Linux shows it as files here
CPU_BATCHED_TOKENS = 8192
CPU_CACHE_BYTES = 2**30  # fixed, because vLLM's own sizing on a CPU counts the process's memory as cache
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRITON_F32_DEFAULT": "ieee",  # the default, TF32, rounds the factors in float32 attention to 10 bits
}


@dataclass
class VllmEngine:
    """A vLLM engine. While asleep it holds neither weights nor cache; `load_weights` wakes it up.

    `group` has the ranks that hold one engine together, each with a part of every weight. All of them must call each
    method.
    """

    llm: Any
    end_ids: list[int]
    is_gpu: bool
    group: Ranks = ALONE
    is_asleep: bool = False
    owns_process_group: bool = True  # whether vLLM made torch's process group, not the trainer
    needs_weights = True

    @classmethod
    def start(cls, policy: Policy, config: Config, is_gpu: bool, group: Ranks = ALONE) -> "VllmEngine":
        """Start an engine for the policy's architecture. Call `load_weights` before sampling."""
        os.environ |= ENVIRONMENT | {"OMP_NUM_THREADS": str(config.run.threads)}  # else vLLM gives torch one thread
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        from vllm import LLM

        settings = engine_settings(policy, config, is_gpu) | {"tensor_parallel_size": group.world}
        pattern = "" if is_gpu else f"{name_shared_memory(group)}-*"
        llm = LLM(model=str(folder_without_weights(policy)), **settings)
        for shared in SHARED_MEMORY.glob(pattern) if pattern else ():
            shared.unlink(missing_ok=True)  # it stays until the ranks that have opened it end, however they do
        is_own = config.backend.backend == "torch"
        return cls(llm, sorted(policy.end_ids), is_gpu, group, owns_process_group=is_own)

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        """Sample all requests of the group's ranks in one call, each with its own seed; returns this rank's."""
        from vllm import SamplingParams

        progress()
        own = [(prompts[place * len(prompts) // len(keys)], key) for place, key in enumerate(keys)]
        shares = self.group.gather(own, list[tuple[list[int], Key]])
        if not (asked := list(chain(*shares))):
            return []
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
            for _, key in asked
        ]
        answers = self.llm.generate([{"prompt_token_ids": prompt} for prompt, _ in asked], wanted, use_tqdm=False)
        start = sum(map(len, shares[: self.group.rank]))
        return [sample_of(answer.outputs[0]) for answer in answers[start : start + len(own)]]

    def load_weights(self, weights: Weights) -> None:
        """Wake up, load the tensors, repair a tied head, and empty the prefix cache."""
        if self.is_asleep:
            torch.cuda.empty_cache()  # vLLM cannot use the blocks that torch's allocator has cached
            self.llm.wake_up(["weights"])
        copied = ((name, tensor.detach().clone()) for name, tensor in weights)
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": copied})
        if not self.is_gpu:
            self.llm.apply_model(pack_head)
        if self.is_asleep:
            torch.cuda.empty_cache()
            self.llm.wake_up(["kv_cache"])
            self.is_asleep = False
        self.llm.reset_prefix_cache()

    def sleep(self) -> None:
        """Drop weights and cache; a no-op on a CPU."""
        if self.is_gpu and not self.is_asleep:
            self.llm.sleep(level=2)
            self.is_asleep = True

    def close(self) -> None:
        """Shut the engine down, but among the trainer's ranks leave that to the process's end.

        vLLM would destroy the process group, in which other ranks may be waiting when this one has failed.
        """
        if self.owns_process_group:
            self.llm.llm_engine.engine_core.shutdown()


def name_shared_memory(group: Ranks) -> str:
    """Give the memory that the group's ranks will share on a CPU a random name, and return it. Collective.

    Otherwise vLLM 0.32 names it after the end of its ranks' address, which is "//" in every run, so that a run could
    not start while there is another's, or what a killed one has left.
    """
    from vllm.v1.executor.uniproc_executor import ExecutorWithExternalLauncher

    name = group.gather(secrets.token_hex(8), str)[0]
    place = ExecutorWithExternalLauncher._distributed_args
    ExecutorWithExternalLauncher._distributed_args = lambda executor: (f"env://:{name}", *place(executor)[1:])
    return name


def sizes_to_split(config: Any) -> tuple[int, int, int]:
    """Attention heads, key and value heads, and columns of the MLP in a transformers config; 0 where it has none."""
    names = "num_attention_heads", "num_key_value_heads", "intermediate_size"
    heads, shared, width = (getattr(config.get_text_config(), name, None) or 0 for name in names)
    return heads, shared or heads, width


def check_split(sizes: tuple[int, int, int], parts: int) -> None:
    """Raise UsageError unless layers of these sizes can be split into as many parts.

    Where key and value heads are fewer, vLLM repeats each.
    """
    heads, shared, width = sizes
    if heads % parts or width % parts or (shared % parts and parts % shared):
        raise UsageError(
            f"--rollout_tp {parts}: expected a divisor of the model's {heads} attention heads, {shared} key and value "
            f"heads and {width} MLP columns, got {parts}: choose another"
        )


def folder_without_weights(policy: Policy) -> Path:
    """A transformers folder in the cache with the policy's config and tokenizer.

    The same files are always in the same place, because vLLM's cache of compiled kernels is keyed by the model's path.
    """
    files = policy.files or companion_files(policy.model, policy.tokenizer)
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
    folder = cache_folder() / "vllm" / digest
    with as_usage_error(f"FIPO_HARNESS_CACHE: expected a folder that can be written, got {str(folder.parent)!r}"):
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / name) as file:
                file.write(content)
    return folder


def engine_settings(policy: Policy, config: Config, is_gpu: bool) -> dict[str, Any]:
    """The keyword arguments of vLLM's LLM that follow from the config."""
    limit = config.rollout.max_response_tokens
    most = limit + config.data.max_prompt_tokens
    length = min(getattr(policy.model.config, "max_position_embeddings", most), most)
    several = config.backend.backend == "deepspeed"
    settings: dict[str, Any] = {
        "load_format": "dummy",
        "dtype": config.model.dtype,
        "hf_overrides": {"head_dtype": "float32"},  # at temperature 1 vLLM would sample from bfloat16 logits
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
