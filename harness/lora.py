"""Low-rank adapters in a frozen model's linear layers (LoRA, Hu et al. 2021), and its tensors with them added in."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.config import ModelSettings
from harness.policy import Policy, own_tensors
from harness.randomness import stream

ADAPTER = "default"
Gather = Callable[[Sequence[Tensor]], AbstractContextManager[Any]]  # makes parameters whole that ranks hold parts of


def with_adapters(policy: Policy, settings: ModelSettings) -> Policy:
    """The policy with adapters of rank `lora_rank` in every linear layer but the head; they alone are trained.

    They change nothing at first, since the second factor is 0; the first is drawn by (model_seed, "lora").
    """
    if settings.lora_rank is None:
        return policy
    import peft

    alpha = settings.lora_alpha or 2 * settings.lora_rank
    wanted = peft.LoraConfig(r=settings.lora_rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(settings.model_seed, "lora").integers(2**63)))
        model = peft.get_peft_model(policy.model, wanted).get_base_model()
    return replace(policy, model=model.eval())


@torch.no_grad()
def exported(model: Any, gather: Gather | None = None) -> Iterator[tuple[str, Tensor]]:
    """The model's tensors under the names that transformers gives them, adapters added in, a tied one once.

    `gather` makes the parameters it is given whole for as long as their tensors are used. A tensor may be the model's
    own: copy what is to be kept.
    """
    gather = gather or (lambda _parameters: nullcontext())
    seen: set[int] = set()
    adapted: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{layer}.") for layer in adapted):
            continue
        is_adapted = hasattr(module, "get_delta_weight")
        if is_adapted:
            adapted.append(name)
        parameters = [p for p in module.parameters(recurse=is_adapted) if id(p) not in seen]
        seen.update(map(id, parameters))
        with gather(parameters):
            plain = module.get_base_layer() if is_adapted else module
            for key, tensor in own_tensors(plain, recurse=False):
                if is_adapted and key == "weight":
                    tensor = tensor + module.get_delta_weight(ADAPTER).to(tensor.dtype)
                if not isinstance(tensor, torch.nn.Parameter) or any(tensor is p for p in parameters):
                    yield f"{name}.{key}".lstrip("."), tensor.detach()
