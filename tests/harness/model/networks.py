"""Small random networks of several architectures, and chat tokenizers, as transformers folders."""

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from tests.harness.tasks import math_material as material

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 1024}
EXPERTS = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 24,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 256}
DYNAMIC_ROPE = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", SHAPE | HEADS | {"tie_word_embeddings": True}),
    "gpt2 with dropout": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024}),
    "experts": ("qwen3_moe", SHAPE | HEADS | EXPERTS | {"num_experts": 4, "head_dim": 8, "decoder_sparse_step": 1}),
    "mixtral": ("mixtral", SHAPE | HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite experts": ("granitemoeshared", SHAPE | HEADS | {"num_local_experts": 4, "shared_intermediate_size": 16}),
    "latent attention": (
        "deepseek_v3",
        SHAPE | HEADS | {"num_key_value_heads": 4} | EXPERTS | LATENT
        | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    ),
    "longrope": ("phi3", SHAPE | HEADS | {"rope_parameters": LONG_ROPE, "original_max_position_embeddings": 24}),
    "yarn": ("llama", SHAPE | HEADS | {"rope_parameters": YARN}),
    "dynamic rope": ("llama", SHAPE | HEADS | {"rope_parameters": DYNAMIC_ROPE, "max_position_embeddings": 32}),
}  # fmt: skip


def save_network(
    folder: Path, kind: str | tuple[str, dict[str, Any]] = "qwen2", tokenizer: Any = None, more_rows: int = 0
) -> str:
    """A network of the kind with random weights, large enough for every fault to show, and its tokenizer."""
    own = tokenizer or material.tokenizer()
    name, shape = KINDS[kind] if isinstance(kind, str) else kind
    ends = {"bos_token_id": own.bos_token_id, "eos_token_id": own.eos_token_id, "pad_token_id": own.pad_token_id}
    ends |= {"vocab_size": len(own) + more_rows}
    if "text_config" in shape:
        shape = shape | {"text_config": shape["text_config"] | ends}
    settings = transformers.AutoConfig.for_model(name, **shape | ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = transformers.AutoModelForCausalLM.from_config(settings)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3)
                else:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    network.save_pretrained(folder)
    own.save_pretrained(folder)
    return str(folder)


def change_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def chat_tokenizer(template: str = material.TEMPLATE, around: str | None = None, extra: tuple[str, ...] = ()) -> Any:
    """Byte-level tokens with ChatML's, a template, and a post-processor such as "<s> $A </s>" around every text."""
    names = [material.END, material.TURN, material.TURN_END, "<s>", "</s>"]
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE({name: index for index, name in enumerate([*names, *letters])}, [])
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    if around:
        specials = [(name, names.index(name)) for name in ("<s>", "</s>") if name in around]
        backend.post_processor = tokenizers.processors.TemplateProcessing(around, special_tokens=specials)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token=material.END,
        additional_special_tokens=[material.TURN, material.TURN_END, *extra],
        chat_template=template,
    )
