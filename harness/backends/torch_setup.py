"""What a process asks of torch, transformers and the C library before it computes."""

import ctypes
import os

import torch
import transformers


def set_up_torch(threads: int) -> None:
    """The thread count, and kernels that give the same bits every time."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # only finds bugs, slowly
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else its products are not deterministic
    keep_freed_memory()
    transformers.utils.logging.disable_progress_bar()


def keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks: else every large tensor of a CPU step is mapped and zeroed anew by the kernel."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**31 - 1)
