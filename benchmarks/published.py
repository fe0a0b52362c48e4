"""Published code for Future-KL: the paper's algorithm plainly, and ms-swift 4.6.0's own method where it is installed.

None of ms-swift's text is stored here. Its source file is compiled but not imported, since importing it needs a hundred
packages. The method reads torch, its arguments and a few attributes of `self`.
"""

import builtins
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType, SimpleNamespace

import torch
from torch import Tensor

VERSION = "4.6.0"
SOURCE = "swift/rlhf_trainers/grpo_trainer.py"
CHUNK = 128  # columns at a time, as published

# log-ratios and mask [sequence, token], decay rate and delta: what `losses.future_kl` returns
FutureKL = Callable[[Tensor, Tensor, float, float | None], Tensor]


def chunked_matrix(log_ratio: Tensor, mask: Tensor, decay_rate: float, delta: float | None = None) -> Tensor:
    """A matrix of decays, a chunk of its columns at a time: time grows with the square of the length (appendix G)."""
    log_ratio = log_ratio.detach()
    kept = mask if delta is None else mask & (log_ratio.exp() <= delta)
    shifts = torch.where(kept, log_ratio, 0.0)
    position = torch.arange(mask.shape[1], device=mask.device)
    chunks = []
    for start in range(0, mask.shape[1], CHUNK):
        distance = position[:, None] - position[start : start + CHUNK]
        decay = torch.pow(2.0 ** (-1.0 / decay_rate), distance.clamp(min=0)).to(shifts.dtype)
        chunks.append(shifts @ torch.where(distance >= 0, decay, 0.0))
    return torch.where(mask, torch.cat(chunks, dim=1), 0.0)


def installed_method() -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
    """ms-swift's GRPOTrainer._compute_fipo_influence as a plain function; ImportError where it is not installed."""
    installed = next(iter(metadata.distributions(name="ms-swift")), None)
    if installed is None or installed.version != VERSION:
        found = installed.version if installed else "none"
        raise ImportError(f"expected ms-swift {VERSION}, found {found}: pip install --no-deps ms-swift=={VERSION}")
    path = Path(str(installed.locate_file(SOURCE)))
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)
    for name in ("GRPOTrainer", "_compute_fipo_influence"):
        code = next(inner for inner in code.co_consts if isinstance(inner, CodeType) and inner.co_name == name)
    return FunctionType(code, {"torch": torch, "__builtins__": builtins})


def ms_swift() -> FutureKL:
    """Future-KL as ms-swift computes it. Raises ImportError where it is not installed.

    The method goes on to an influence weight. Clip range and safety threshold are None here, so that beside Future-KL
    it costs one exp, as does the ratio that ms-swift's loss hands it: little beside the decay blocks.
    """
    method = installed_method()

    def future_kl(log_ratio: Tensor, mask: Tensor, decay_rate: float, delta: float | None = None) -> Tensor:
        trainer = SimpleNamespace(
            args=SimpleNamespace(delta=delta),
            fipo_gamma=2 ** (-1 / decay_rate),
            fipo_clip_range=None,
            fipo_clip_high_only=True,
            fipo_safety_threshold=None,
        )
        # advantages are read by the safety threshold only
        return method(trainer, log_ratio, log_ratio.detach().exp(), torch.ones(()), mask)[1]["future_kl"]

    return future_kl
