"""Sizes of a decoder with grouped-query attention and a gated MLP, from its config.json; loads no weights."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from harness.config.schema import ModelSettings
from harness.errors import UsageError

SHAPES = Path(__file__).with_suffix(".toml")
BIASED = {"qwen2": True, "llama": False, "mistral": False}  # model type: whether queries, keys and values have biases


@dataclass(frozen=True)
class ModelShape:
    """The sizes in a model's config.json."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    positions: int
    is_tied: bool  # the output head and the embedding are one tensor
    is_biased: bool = True

    @property
    def query(self) -> int:  # total width of a token's queries
        return self.heads * self.head_dim

    @property
    def key(self) -> int:  # total width of a token's keys; the values' is the same
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of a layer's linear maps: query, key, value, output, gate, up, down."""
        attention = [(self.hidden, self.query), (self.hidden, self.key), (self.hidden, self.key)]
        mlp = [(self.hidden, self.intermediate)] * 2 + [(self.intermediate, self.hidden)]
        return [*attention, (self.query, self.hidden), *mlp]

    @property
    def embedding(self) -> int:  # number of parameters; an untied head has the same number
        return self.vocabulary * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Parameters of a layer: linear maps, biases of queries, keys and values, and two norms."""
        biases = (self.query + 2 * self.key) * self.is_biased
        return sum(inputs * outputs for inputs, outputs in self.linears) + biases + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, a tied head counted once."""
        return self.layers * self.layer_parameters + self.embedding * (1 if self.is_tied else 2) + self.hidden

    def adapters(self, rank: int) -> int:
        """Parameters of adapters of this rank in every linear map but the head."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.linears)

    def cache_bytes(self, width: int) -> int:
        """Bytes of one token's keys and values, with `width` bytes per number."""
        return 2 * self.layers * self.key * width


def shape_of(settings: ModelSettings) -> ModelShape:
    """The model's shape, from shapes.toml or its config.json. Raises UsageError if it is not available locally."""
    if settings.model == "tiny":
        from harness.run.tiny_model import END, PAD, SHAPE
        from harness.tasks.demonstrated import CHARACTERS

        return shape_from(SHAPE | {"model_type": "qwen2", "vocab_size": len(PAD + END + CHARACTERS)}, "tiny")
    known = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
    if settings.model in known:
        return shape_from(known[settings.model], settings.model)
    model = str(Path(settings.model).expanduser())
    try:
        values, _ = PretrainedConfig.get_config_dict(model, revision=settings.model_revision, local_files_only=True)
    except OSError as error:
        raise UsageError(
            f"--model: expected a model of harness/plan/shapes.toml, a transformers folder or one in the hub's cache, "
            f"got {settings.model!r}, {str(error).splitlines()[0]}: download its config.json first "
            f"(hf download {settings.model} config.json), or name a folder"
        ) from None
    return shape_from(values, settings.model)


def shape_from(values: Mapping[str, Any], model: str) -> ModelShape:
    """The shape that the values of a config.json describe. Raises UsageError for an unsupported architecture."""
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
