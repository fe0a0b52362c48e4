"""Benchmark scores of a finished run."""
