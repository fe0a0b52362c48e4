"""Imported by the server that forks runs (sweeps/forks.py): everything a run imports, and then no more.

No thread may run in that process, since a fork would copy its locks as they are.
"""

import gc
import importlib
import os
import pkgutil
import signal
import sys
from pathlib import Path

import transformers

import harness
from harness.backends.signals import STOPPING
from harness.run.environment import code_facts

LAZY = ("AutoModelForCausalLM", "AutoTokenizer", "PreTrainedTokenizerFast", "Qwen2Config", "Qwen2ForCausalLM")

for module in pkgutil.walk_packages(harness.__path__, "harness."):
    if module.name not in (__name__, "harness.__main__"):
        importlib.import_module(module.name)
for name in LAZY:
    getattr(transformers, name)
code_facts()  # of the code just imported, even if its files change later
if len(list(Path("/proc/self/task").iterdir())) != 1:
    sys.exit("error: expected no thread before a fork, got some: runs start from scratch")
gc.freeze()  # otherwise each collection in a child would copy all pages
os.setsid()
for number in STOPPING:
    signal.signal(number, signal.SIG_IGN)  # meant for the runs
