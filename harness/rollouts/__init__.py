"""Prompts in, scored answers out: engines, decoding and held-out questions."""
