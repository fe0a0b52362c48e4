"""ms-swift 4.6.0's own Future-KL: the installed package's method itself, none of whose text is stored here.

Its source file is compiled but not imported, since importing it brings in a hundred packages, takes some ten seconds
and fails with only those that ms-swift declares (msgspec is missing). The method reads torch, its arguments and a few
attributes of `self`, and its bytecode is that of the imported class's method.
"""

import builtins
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType, SimpleNamespace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

VERSION = "4.6.0"
SOURCE = "swift/rlhf_trainers/grpo_trainer.py"


def _constant(code: CodeType, name: str) -> CodeType:
    """The code of the class or function `name` that `code` defines."""
    return next(inner for inner in code.co_consts if isinstance(inner, CodeType) and inner.co_name == name)


def _installed_method() -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
    """ms-swift's GRPOTrainer._compute_fipo_influence as a plain function; ImportError where it is not installed."""
    try:
        installed = metadata.distribution("ms-swift")
    except metadata.PackageNotFoundError:
        raise ImportError(
            f"expected ms-swift {VERSION}, found none: pip install --no-deps ms-swift=={VERSION}"
        ) from None
    if installed.version != VERSION:
        raise ImportError(f"expected ms-swift {VERSION}, found {installed.version}")
    path = Path(str(installed.locate_file(SOURCE)))
    module = compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)
    method = _constant(_constant(module, "GRPOTrainer"), "_compute_fipo_influence")
    return FunctionType(method, {"torch": torch, "__builtins__": builtins})


_compute_fipo_influence = _installed_method()


def future_kl(
    log_ratio: Float[Tensor, "sequence token"],
    mask: Bool[Tensor, "sequence token"],
    decay_rate: float,
    delta: float | None = None,
) -> Float[Tensor, "sequence token"]:
    """Future-KL as ms-swift computes it, with the autograd graph that it builds where log_ratio requires grad.

    The method goes on to an influence weight. Clip range and safety threshold are None here, so that beside Future-KL
    it costs one exp, as does the ratio that ms-swift's loss hands it: little beside the decay blocks.
    """
    trainer = SimpleNamespace(
        args=SimpleNamespace(delta=delta),
        fipo_gamma=2 ** (-1 / decay_rate),
        fipo_clip_range=None,
        fipo_clip_high_only=True,
        fipo_safety_threshold=None,
    )
    ratio, advantages = log_ratio.detach().exp(), torch.ones(())  # advantages are read by the safety threshold only
    return _compute_fipo_influence(trainer, log_ratio, ratio, advantages, mask)[1]["future_kl"]
