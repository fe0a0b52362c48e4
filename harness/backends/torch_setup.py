"""Process-wide setup of torch, transformers and the C library."""

import ctypes
import os

import torch
import transformers


def set_up_torch(threads: int) -> None:
    """Set the thread count and use deterministic kernels only."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a slow debugging aid
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required for deterministic matrix products
    else:
        keep_freed_memory()  # beside a GPU a whole model is freed once it has moved there
    transformers.utils.logging.disable_progress_bar()


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory; otherwise the kernel maps and zeroes every large CPU tensor anew."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**31 - 1)
