"""A GPU that is not there: tensors in the host's memory that say cuda:0 and refuse to meet the host's, as CUDA's do.

Left out on purpose: what only a device can show, such as its kernels' rounding and their speed.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).parents[2]
CODE = str(ROOT / "harness"), str(ROOT / "losses")
CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
JOINED = (aten.cat.default, aten.stack.default)  # elsewhere a scalar may be on the host


@dataclass
class Found:
    """Operators that ran on the pretended GPU, and the lines of our code that moved or made tensors there."""

    operators: set[str] = field(default_factory=set)
    moves: set[str] = field(default_factory=set)


class OnGpu(torch.Tensor):
    """A tensor whose numbers are in `inner`, on the host."""

    inner: Tensor
    found: Found  # of the latest `pretended_gpu`

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnGpu":
        like = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made: OnGpu = torch.Tensor._make_wrapper_subclass(cls, inner.shape, **like)
        made.inner = inner
        return made

    device = property(lambda _: CUDA)
    is_cuda = property(lambda _: True)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.inner})"

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu()")

    def tolist(self) -> Any:
        return self.detach().inner.tolist()  # type: ignore[attr-defined]

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = OnGpu(self.inner.clone())
        is_parameter = isinstance(self, torch.nn.Parameter)
        memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        together = [args[0], *args[2:3]] if function in INDEXED else tensors  # indices may be on the host
        on_host = [one for one in together if not isinstance(one, OnGpu) and (one.dim() > 0 or function in JOINED)]
        if on_host and function is not aten.copy_.default:
            raise RuntimeError(f"{function}: expected all tensors to be on the same device, got cuda:0 and cpu")
        cls.found.operators.add(str(function).removeprefix("aten."))
        known = {id(one.inner) if isinstance(one, OnGpu) else id(one): one for one in tensors}
        plain = tree_map(lambda leaf: leaf.inner if isinstance(leaf, OnGpu) else leaf, (args, kwargs or {}))
        if function is aten.mm.dtype:  # which has no kernel on the host
            result = torch.mm(*(one.to(plain[0][2]) for one in plain[0][:2]))
        else:
            result = function(*plain[0], **plain[1])
        return tree_map(lambda t: known.get(id(t)) if id(t) in known else wrapped(t), result)


def wrapped(result: Any) -> Any:
    return OnGpu(result) if isinstance(result, Tensor) else result


class Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, to_gpu: bool) -> Tensor:
        ctx.back = isinstance(tensor, OnGpu)
        copied = (tensor.inner if isinstance(tensor, OnGpu) else tensor).detach().clone()
        return OnGpu(copied) if to_gpu else copied

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return Move.apply(gradient, ctx.back), None  # type: ignore[no-untyped-call]


class Moving(TorchFunctionMode):
    """Carries out moves between host and GPU, but for those to the GPU in one line of our code, which it `forgets`."""

    def __init__(self, found: Found, forgets: str | None) -> None:
        super().__init__()
        self.found, self.forgets = found, forgets

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.Tensor.cpu:
            return self.moved(args[0], "cpu")
        if function is torch.Tensor.to:
            first, *given = args
            if given and isinstance(given[0], Tensor):
                given = [given[0].device, given[0].dtype]
            devices = [one for one in (kwargs.pop("device", None), *given) if isinstance(one, (str, torch.device))]
            others = [one for one in given if isinstance(one, torch.dtype)]
            moved = self.moved(first, devices[0]) if devices else first
            return function(moved, *others, **kwargs) if others or kwargs else moved
        if is_gpu(kwargs.get("device")):
            made = function(*args, **kwargs | {"device": "cpu"})
            return made if isinstance(made, OnGpu) else self.moved(made, CUDA)
        return function(*args, **kwargs)

    def moved(self, tensor: Tensor, device: Any) -> Tensor:
        if is_gpu(device) == isinstance(tensor, OnGpu):
            return tensor
        if is_gpu(device):
            self.found.moves.add(line := calling_line())
            if line == self.forgets:
                return tensor
        result: Tensor = Move.apply(tensor, is_gpu(device))  # type: ignore[no-untyped-call]
        return result


def is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def calling_line() -> str:
    """The innermost line of our code that is running, as FILE:LINE."""
    frame: Any = sys._getframe()
    while frame and not frame.f_code.co_filename.startswith(CODE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}" if frame else ""


def to_gpu(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its parameters and buffers on the pretended GPU; tied ones stay tied."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, one in module._parameters.items():
            if one is not None:
                parameter = made.setdefault(id(one), torch.nn.Parameter(OnGpu(one.data.clone()), one.requires_grad))
                module._parameters[name] = parameter  # type: ignore[assignment]
        module._buffers |= {name: OnGpu(one.clone()) for name, one in module._buffers.items() if one is not None}
    return model


@contextmanager
def pretended_gpu(forgets: str | None = None) -> Iterator[Found]:
    """Inside, torch finds a GPU; a move to it that `forgets` names as FILE:LINE does not happen."""
    OnGpu.found = Found()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "get_device_name", lambda: "a pretended GPU")
        patch.setattr(torch.cuda.nccl, "version", lambda: (2, 27, 5))
        patch.setattr(torch.nn.Module, "cuda", to_gpu)
        for name in ("__enter__", "__exit__"):  # views of a subclass of Tensor fail in inference mode
            patch.setattr(torch.inference_mode, name, getattr(torch.no_grad, name))
        with Moving(OnGpu.found, forgets):
            yield OnGpu.found
