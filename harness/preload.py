"""Imports everything that a run needs, in the server process that forks runs (sweeps/workers/processes.py).

No thread may run in that process, since a fork would copy the locks that a thread holds.
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

# The last two are scripts of worker processes, whose packages a run does not import.
NOT_HERE = (__name__, "harness.__main__", "harness.tasks.gym_worker", "harness.tasks.math.equality")

for module in pkgutil.walk_packages(harness.__path__, "harness."):
    if module.name not in NOT_HERE:
        importlib.import_module(module.name)
for name in LAZY:
    getattr(transformers, name)
code_facts()  # cached now: the files may change later, the imported code does not
if len(list(Path("/proc/self/task").iterdir())) != 1:
    sys.exit("error: expected no thread before a fork, got some: runs start from scratch")
gc.freeze()  # otherwise every garbage collection in a child would copy all memory pages
os.setsid()
for number in STOPPING:
    signal.signal(number, signal.SIG_IGN)  # stop signals are for the runs
