"""Prompts in, scored responses out: engines, decoding and held-out prompts."""
