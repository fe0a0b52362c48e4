"""Freed memory is kept on a CPU, and given back where a GPU has taken what was in it."""

import subprocess
import sys

import pytest

MEASURED = """
import psutil, torch
from harness.backends.torch_setup import set_up_torch

def kept_mib():
    before = psutil.Process().memory_info().rss
    torch.ones(2**26)  # 256 MiB
    return psutil.Process().memory_info().rss - before >> 20

for is_gpu in (True, False):
    torch.cuda.is_available = lambda: is_gpu
    set_up_torch(threads=1)
    print(kept_mib())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator alone is told")
def test_freed_memory_is_kept_without_a_gpu_only() -> None:
    beside_gpu, on_cpu = map(int, subprocess.check_output([sys.executable, "-c", MEASURED], text=True).split())
    assert beside_gpu < 64
    assert on_cpu > 192
