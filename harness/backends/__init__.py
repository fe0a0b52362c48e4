"""Optimizer and ranks: torch and DeepSpeed, and starting ranks or meeting those that torchrun starts."""
