"""The shape of a decoder with grouped attention and a gated MLP, and how many parameters it comes to.

Known shapes stand in shapes.toml; others are read from a folder's config.json, or from the hub's cache. Nothing
is downloaded and no weights are read.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.schema import ModelSettings
from harness.errors import UsageError

SHAPES = Path(__file__).with_suffix(".toml")
BIASED = {"qwen2": True, "llama": False, "mistral": False}  # whether queries, keys and values have biases


@dataclass(frozen=True)
class ModelShape:
    """What a model's config.json says of its size."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    positions: int
    is_tied: bool  # the output head is the embedding
    is_biased: bool = True

    @property
    def query(self) -> int:
        """Width of all queries: heads x head_dim."""
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of all keys, or of all values: kv_heads x head_dim."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> list[tuple[int, int]]:
        """Inputs and outputs of a layer's linear maps: query, key, value, output, gate, up, down."""
        attention = [(self.hidden, self.query), (self.hidden, self.key), (self.hidden, self.key)]
        mlp = [(self.hidden, self.intermediate)] * 2 + [(self.intermediate, self.hidden)]
        return [*attention, (self.query, self.hidden), *mlp]

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and of a head of its own."""
        return self.vocabulary * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Of one layer: linear maps, biases of queries, keys and values, two norms."""
        biases = (self.query + 2 * self.key) * self.is_biased
        return sum(inputs * outputs for inputs, outputs in self.linears) + biases + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """All, a tied head once.

        Qwen2.5-0.5B: 24 (896 (2 x 896 + 2 x 128) + 3 x 896 x 4864 + 1,152 + 1,792) + 151,936 x 896 + 896 = 494,032,768.
        """
        return self.layers * self.layer_parameters + self.embedding * (1 if self.is_tied else 2) + self.hidden

    def adapters(self, rank: int) -> int:
        """Parameters of low-rank adapters in every linear map but the head."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.linears)

    def cache_bytes(self, width: int) -> int:
        """Of keys and values, per token; `width` is bytes per number."""
        return 2 * self.layers * self.key * width


def shape_of(settings: ModelSettings) -> ModelShape:
    """The shape of the config's model. Raises UsageError where it is known from nothing at hand."""
    if settings.model == "tiny":
        return tiny_shape()
    known = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
    if settings.model in known:
        return shape_from(known[settings.model], settings.model)
    path = config_file(settings)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--model: expected a readable config.json, got {str(path)!r}: {error}") from None
    return shape_from(values, settings.model)


def config_file(settings: ModelSettings) -> Path:
    """The config.json of a folder, or of a hub model in the cache."""
    import huggingface_hub

    folder = Path(settings.model).expanduser()
    if folder.is_dir():
        return folder / "config.json"
    cached = None
    if settings.model.count("/") == 1 and not settings.model.startswith((".", "/", "~")):
        revision = settings.model_revision or "main"
        cached = huggingface_hub.try_to_load_from_cache(settings.model, "config.json", revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    raise UsageError(
        f"--model: expected a model of harness/plan/shapes.toml, a transformers folder or one in the hub's cache, got "
        f"{settings.model!r}: fetch its config.json first (hf download {settings.model} config.json), or name a folder"
    )


def shape_from(values: Mapping[str, Any], model: str) -> ModelShape:
    """The shape that a config.json's values describe."""
    kind = values.get("model_type")
    if kind not in BIASED:
        raise UsageError(f"--model: expected a model of type {', '.join(BIASED)} to plan for, got {kind} in {model!r}")
    try:
        heads = values["num_attention_heads"]
        return ModelShape(
            vocabulary=values["vocab_size"],
            hidden=values["hidden_size"],
            layers=values["num_hidden_layers"],
            heads=heads,
            kv_heads=values.get("num_key_value_heads") or heads,
            head_dim=values.get("head_dim") or values["hidden_size"] // heads,
            intermediate=values["intermediate_size"],
            positions=values["max_position_embeddings"],
            is_tied=values.get("tie_word_embeddings", False),
            is_biased=values.get("attention_bias", BIASED[kind]),
        )
    except KeyError as error:
        raise UsageError(f"--model: expected {error} in the config.json of {model!r}, got none") from None


def tiny_shape() -> ModelShape:
    """Of the model that is made here."""
    from harness.run.tiny_model import END, PAD, SHAPE
    from harness.tasks.chain_sum import CHARACTERS

    return shape_from(SHAPE | {"model_type": "qwen2", "vocab_size": len(PAD + END + CHARACTERS)}, "tiny")
