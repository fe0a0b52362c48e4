"""Compares two runs: reproduction, replay with another loss, first difference."""
