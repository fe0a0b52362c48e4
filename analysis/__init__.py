"""Run and study folders -> statistics -> figures, tables and one report; `docs/run_folder.md` says what may be read.

It hands on no names: `python -m analysis` is its interface, and its commands import what they need when they start.
"""
