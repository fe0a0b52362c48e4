"""Training with DeepSpeed: ZeRO 1 to 3 in float32, 2 and 3 in bfloat16, on GPUs or, through gloo, on CPUs.

DeepSpeed divides gradients by the number of ranks and by its accumulation steps. Our loss is already this rank's share
of the whole minibatch's loss, so `backward` multiplies by the number of ranks. For accumulation DeepSpeed is configured
with one step, and `backward` tells it which micro-batch is the last.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.backends.backend import MOMENTS, Tensors, make_schedule, trained_parameters
from harness.backends.phases import progress
from harness.backends.ranks import Ranks
from harness.config.schema import Config
from harness.model.lora import exported
from harness.model.packing import TokenBatch
from harness.model.policy import Logprobs, Policy

CPU_BUCKET, GPU_BUCKET = 2_000_000, 500_000_000  # elements; DeepSpeed's default (500 M) takes 1.2 s per step on a CPU


class Scored(torch.nn.Module):
    """A module whose forward returns the policy's log-probabilities, for DeepSpeed to wrap."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.model = policy.model
        self.policy = policy

    def forward(self, tokens: TokenBatch, temperature: float) -> Logprobs:
        return self.policy.logprobs(tokens, temperature)


def deepspeed_settings(config: Config, is_gpu: bool) -> dict[str, Any]:
    """DeepSpeed's complete configuration, from our typed settings."""
    backend = config.backend
    bucket = backend.zero_bucket_size or (GPU_BUCKET if is_gpu else CPU_BUCKET)
    zero: dict[str, Any] = {
        "stage": backend.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "overlap_comm": is_gpu and backend.zero_stage > 1,
    }
    if backend.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": is_gpu}
    if backend.offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": is_gpu}
    return {
        "train_micro_batch_size_per_gpu": 1,  # only used in DeepSpeed's bookkeeping; the harness makes micro-batches
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.optimizer.grad_clip,
        "steps_per_print": None,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # use torch's AdamW, as the other backend does
        "data_types": {"grad_accum_dtype": "fp32"},  # by default bfloat16 gradients are summed in bfloat16
        "communication_data_type": "fp32",
        "bf16": {"enabled": config.model.dtype == "bfloat16", "check_grad_overflow": True},
        "zero_optimization": zero,
    }


def deepspeed_backend(policy: Policy, config: Config, ranks: Ranks, is_gpu: bool) -> "DeepSpeedBackend":
    """Wrap the policy in a DeepSpeed engine. Under ZeRO 3 this partitions its weights, which may be on the host.

    No GPU then ever holds more than its part of them and one whole parameter.
    """
    deepspeed, settings = imported(is_gpu), deepspeed_settings(config, is_gpu)
    parameters = [parameter for _, parameter in trained_parameters(policy.model)]
    optimizer = torch.optim.AdamW(parameters, lr=config.optimizer.lr, weight_decay=config.optimizer.weight_decay)
    schedule = make_schedule(optimizer, config.optimizer, config.updates_per_rollout)
    module = Scored(policy)
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
    if config.backend.zero_stage == 3:
        for parameter in policy.model.parameters():  # peft's float32 too, as in the other stages
            parameter.data = parameter.data.to(getattr(torch, config.model.dtype))
        deepspeed.zero.Init(module=policy.model, config_dict_or_path=settings)
        for buffer in policy.model.buffers():
            buffer.data = buffer.data.to(policy.device)
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=settings)
    if config.backend.zero_stage == 3:
        # the head's weight is used outside its own layer, so DeepSpeed must gather it for the wrapper
        deepspeed.zero.register_external_parameter(module, policy.model.get_output_embeddings().weight)
    module.eval()
    return DeepSpeedBackend(policy, ranks, schedule, engine, config.backend.zero_stage)


def imported(is_gpu: bool) -> Any:
    """Import DeepSpeed with its logging turned off and without its shared-memory collectives for CPUs.

    Those take a minute to compile, and spin forever if a rank has died, whereas gloo's fail.
    """
    if not is_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    deepspeed.utils.logger.setLevel("ERROR")
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")  # one per call
    return deepspeed


@dataclass(frozen=True)
class DeepSpeedBackend:
    """A DeepSpeed engine with torch's AdamW."""

    policy: Policy
    ranks: Ranks
    schedule: torch.optim.lr_scheduler.LambdaLR
    engine: Any
    zero_stage: int
    must_copy_weights = True  # ZeRO keeps weights as views of its buffers or gathers them temporarily

    def logprobs(self, tokens: TokenBatch, temperature: float) -> Logprobs:
        found: Logprobs = self.engine(tokens, temperature)
        return found

    def zero_grad(self) -> None:
        """No-op: the engine clears gradients when it steps."""

    def backward(self, loss: Tensor, is_last: bool) -> None:
        """Accumulate gradients, multiplied by the number of ranks: DeepSpeed averages them, but they must be summed."""
        progress()
        self.engine.set_gradient_accumulation_boundary(is_last)
        self.engine.backward(loss * self.ranks.world)
        progress()

    def gradient_norm(self) -> Tensor:
        """The norm that the optimizer will use for clipping; NaN if the gradient is not finite."""
        optimizer = self.engine.optimizer
        if hasattr(optimizer, "_get_norm_groups"):  # stage 3
            parts = [torch.as_tensor(norm) for norm in optimizer._get_norm_groups()]
        else:  # stages 1 and 2
            parts = [torch.as_tensor(optimizer.scaled_global_norm())]
        norms = torch.stack([part.float() for part in parts])
        return norms.norm() if bool((norms >= 0).all()) else norms.new_tensor(torch.nan)  # DeepSpeed returns -1 for NaN

    def step(self, norm: Tensor) -> None:  # noqa: ARG002  (the engine computes the norm itself)
        """Clip and step. Returns no norm of the change, because each rank only knows its own part."""
        self.engine.step()
        self.schedule.step()

    def discard(self) -> None:
        """Drop the gradient. ZeRO optimizers only do so in a step with a non-finite gradient, so take such a step."""
        optimizer = self.engine.optimizer
        for parts in optimizer.averaged_gradients.values():
            for part in parts or ():
                part.fill_(torch.nan)  # the gradient may be finite although the loss is not
        offloaded = getattr(optimizer, "norm_for_param_grads", {})
        offloaded |= {key: torch.full_like(torch.as_tensor(norm), torch.nan) for key, norm in offloaded.items()}
        self.engine.step()

    def own_weights(self) -> Iterator[Tensor]:
        return (getattr(p, "ds_tensor", p).detach() for p in self.policy.model.parameters())

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return exported(self.policy.model, self.gathered if self.zero_stage == 3 else None)

    def gathered(self, parameters: Iterable[Tensor]) -> Any:
        import deepspeed

        return deepspeed.zero.GatheredParameters(list(parameters))

    def state(self) -> tuple[Tensors, Tensors]:
        """The float32 weights and the moments, gathered from all ranks one tensor at a time."""
        from deepspeed.utils import safe_get_full_fp32_param

        weights: Tensors = {}
        moments: Tensors = {}
        has_moments = self.schedule.last_epoch > 0
        for name, parameter in trained_parameters(self.policy.model):
            found = {"": safe_get_full_fp32_param(parameter)}
            if has_moments:
                found |= {f"/{moment}": self.moment(parameter, moment) for moment in MOMENTS}
            if self.ranks.is_first:
                weights[name] = found.pop("").detach().cpu().clone()
                moments |= {f"{name}{key}": tensor.detach().cpu().clone() for key, tensor in found.items()}
        return weights, moments

    def moment(self, parameter: Tensor, moment: str) -> Tensor:
        """One AdamW moment of a parameter, gathered from all ranks; `step` is the same for all parameters."""
        from deepspeed.utils import safe_get_full_optimizer_state

        if moment == "step":
            return torch.tensor(float(self.schedule.last_epoch))
        whole: Tensor = safe_get_full_optimizer_state(parameter, moment)
        return whole

    def load_state(self, weights: Tensors, moments: Tensors) -> None:
        """Restore from whole tensors, of which each rank takes its part; the number of ranks may have changed."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        parameters = dict(trained_parameters(self.policy.model))
        for name, tensor in weights.items():
            safe_set_full_fp32_param(parameters[name], tensor.to(parameters[name].device))
        if moments:
            self.make_room(moments)
        for key, tensor in moments.items():
            name, _, moment = key.rpartition("/")
            if moment != "step":
                safe_set_full_optimizer_state(parameters[name], tensor.to(parameters[name].device), moment)

    def make_room(self, moments: Tensors) -> None:
        """Create the moments, which the optimizer would otherwise create at its first step."""
        steps = next(tensor for key, tensor in moments.items() if key.endswith("/step"))
        # this rank's flat partitions of the float32 weights, the parameters of torch's optimizer
        partitions = "fp32_partitioned_groups_flat" if self.zero_stage == 3 else "single_partition_of_fp32_groups"
        for group in getattr(self.engine.optimizer, partitions):
            self.engine.optimizer.optimizer.state[group] = {
                "step": steps.clone(),
                **{name: torch.zeros_like(group) for name in MOMENTS if name != "step"},
            }
        if hasattr(self.engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
            self.engine.optimizer._lazy_init_hp_params_optimizer_state()
