"""Low-rank adapters in a frozen model (LoRA, Hu et al. 2021), and export of the weights with the adapters merged."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import ModelSettings
from harness.console import say
from harness.errors import UsageError, as_usage_error
from harness.model.packing import TokenBatch, pack_batch
from harness.model.policy import Policy, own_tensors
from harness.randomness import stream

ADAPTER = "default"
MAX_ERROR_SHARE = 0.1  # largest error of the export, relative to the change that the adapters make
Gather = Callable[[Sequence[Tensor]], AbstractContextManager[Any]]  # gathers parameters that are sharded over ranks


def with_adapters(policy: Policy, settings: ModelSettings) -> Policy:
    """The policy with trainable adapters of rank `lora_rank` in every linear layer but the head; the rest is frozen.

    The first factor is drawn from the stream (model_seed, "lora") and the second is 0, so the model's output does not
    change at first. Raises UsageError for a model that cannot take adapters.
    """
    if settings.lora_rank is None:
        return policy
    import peft

    alpha = settings.lora_alpha or 2 * settings.lora_rank
    wanted = peft.LoraConfig(r=settings.lora_rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear")
    kind = type(policy.model).__name__
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns about settings that it adjusts itself, for Conv1D and experts
        torch.manual_seed(int(stream(settings.model_seed, "lora").integers(2**63)))
        with as_usage_error(f"--lora_rank {settings.lora_rank}: expected a model that takes adapters, got {kind}"):
            model = peft.get_peft_model(policy.model, wanted).get_base_model()
            adapted = replace(policy, model=model.eval())
            adapted.logprobs(probe(adapted), 1.0)
    return adapted


def check_export(policy: Policy, settings: ModelSettings) -> None:
    """Raise UsageError if the export would miss some of the adapters."""
    if settings.lora_rank is not None and not export_matches_training(policy):
        raise UsageError(
            f"--lora_rank {settings.lora_rank}: expected a model whose output is unchanged when adapters are merged "
            f"into its weights, got {type(policy.model).__name__}: omit --lora_rank, or use another model"
        )


def note_frozen_experts(model: Any) -> None:
    """Print a note if some expert weights have no adapters; peft supports experts for some architectures only."""
    adapted = {id(adapted_parameter(layer)) for layer in adapted_layers(model)}
    frozen = [name for name, one in base_parameters(model) if one.ndim == 3 and id(one) not in adapted]
    if frozen:
        say(f"note: {len(frozen)} expert weights have no adapters and are not trained, such as {frozen[0]}")


def probe(policy: Policy) -> TokenBatch:
    """A short text of tokens spread over the vocabulary."""
    tokens = torch.linspace(0, policy.model.get_input_embeddings().num_embeddings - 1, 16).long().tolist()
    return pack_batch([tokens[:4]], [tokens[4:]], policy.device)


@torch.no_grad()
def export_matches_training(policy: Policy) -> bool:
    """Whether the exported weights give the same log-probabilities as the base model with its adapters.

    The test scales the adapters up to the norm of the weights, so that a missing one is noticed, and sets them to 0
    again. It takes the median over tokens because rounding may route a token to another expert.
    """
    batch, layers = probe(policy), adapted_layers(policy.model)
    plain, _ = policy.logprobs(batch, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in layers:
            factor, weight = layer.lora_B[ADAPTER].weight, adapted_parameter(layer)
            factor.normal_()
            factor.mul_(weight.norm() / layer.get_delta_weight(ADAPTER).norm())
    trained, _ = policy.logprobs(batch, 1.0)
    with as_exported(policy.model):
        saved, _ = policy.logprobs(batch, 1.0)
    for layer in layers:
        layer.lora_B[ADAPTER].weight.zero_()
    return bool((saved - trained).abs().median() <= MAX_ERROR_SHARE * (plain - trained).abs().median())


@contextmanager
def as_exported(model: Any) -> Iterator[None]:
    """Inside, adapters are off and each block of layers has its exported weights while it computes.

    So no more than one block's weights are held twice.
    """
    adapting, kept = adapters_by_parameter(model), dict[Tensor, Tensor]()

    def merge(block: Any, _: Any) -> None:
        for parameter in block.parameters():
            if layers := adapting.get(id(parameter)):
                kept[parameter], parameter.data = parameter.data, merged(parameter, layers)

    def restore(*_: Any) -> None:
        for parameter, data in kept.items():
            parameter.data = data
        kept.clear()

    names = {block_of(name) for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    outermost = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    hooks = []
    for block in map(model.get_submodule, outermost):
        hooks += [block.register_forward_pre_hook(merge), block.register_forward_hook(restore)]
    for layer in adapted_layers(model):
        layer.enable_adapters(False)
    try:
        yield
    finally:
        restore()
        for layer in adapted_layers(model):
            layer.enable_adapters(True)
        for hook in hooks:
            hook.remove()


def block_of(name: str) -> str:
    """The name of the transformer block in which a module is; outside of any, the module's own."""
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), len(parts))
    return ".".join(parts[: number + 1])


@torch.no_grad()
def exported(model: Any, gather: Gather | None = None) -> Iterator[tuple[str, Tensor]]:
    """The model's tensors with the adapters merged, under transformers' names; tied tensors appear once.

    `gather` gathers sharded parameters while they are in use. A yielded tensor may share the model's storage: copy it
    before keeping it.
    """
    gather = gather or (lambda _parameters: nullcontext())
    adapting = adapters_by_parameter(model)
    for name, parameter in base_parameters(model):
        layers = adapting[id(parameter)]
        with gather([parameter, *(factor for layer in layers for factor in factors(layer))]):
            yield name, merged(parameter, layers).detach()
    for name, tensor in own_tensors(model):
        if not isinstance(tensor, torch.nn.Parameter):
            yield plain_name(name), tensor


def adapters_by_parameter(model: Any) -> dict[int, list[Any]]:
    """The peft layers that adapt each parameter, by the parameter's id; none for any other."""
    adapting: dict[int, list[Any]] = defaultdict(list)
    for layer in adapted_layers(model):
        adapting[id(adapted_parameter(layer))].append(layer)
    return adapting


def merged(parameter: Tensor, layers: Sequence[Any]) -> Tensor:
    """The parameter with the change that these layers make to it."""
    return sum((layer.get_delta_weight(ADAPTER).to(parameter.dtype) for layer in layers), start=parameter)


def base_parameters(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The model's parameters other than adapters, under their original names; tied ones appear once."""
    of_adapters = {id(factor) for layer in adapted_layers(model) for factor in factors(layer)}
    for name, parameter in model.named_parameters():
        if id(parameter) not in of_adapters:
            yield plain_name(name), parameter


def plain_name(name: str) -> str:
    """A tensor's name without peft's wrapper layers."""
    return ".".join(part for part in name.split(".") if part != "base_layer")


def adapted_layers(model: Any) -> list[Any]:
    """All peft layers. They may be nested: a mixture-of-experts module holds several adapted weights."""
    return [module for module in model.modules() if hasattr(module, "get_delta_weight")]


def adapted_parameter(layer: Any) -> torch.nn.Parameter:
    """The weight that an adapter modifies; for fused experts its name is not `weight`."""
    parameter: torch.nn.Parameter = getattr(layer.get_base_layer(), getattr(layer, "parameter_name", "weight"))
    return parameter


def factors(layer: Any) -> list[torch.nn.Parameter]:
    return [factor for name in layer.adapter_layer_names for factor in getattr(layer, name).parameters()]
