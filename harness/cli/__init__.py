"""The commands of `python -m harness`, one per file."""
