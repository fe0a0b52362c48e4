"""The network: loading, LoRA, packing, attention and log-probabilities."""
