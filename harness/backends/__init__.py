"""Optimizer and ranks: torch, DeepSpeed, and launching under torchrun."""
