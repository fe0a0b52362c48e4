"""Two runs: reproduce, replay, first difference."""
