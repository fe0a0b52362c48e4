"""From scored responses to optimizer steps, and their metrics."""
