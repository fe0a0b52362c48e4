"""From scored answers to an optimizer step, and the metrics on the way."""
