"""Repeats a run, in whole or its updates alone, and finds the first difference between two runs."""
