"""The flags of `search` and `plan`."""

import argparse

from harness import add_setting_flags
from sweeps.study.claims import add_claims


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """What is searched, how, where, and until when; then a flag for every setting that all runs share."""
    add_what(parser.add_argument_group("search", "What is searched, and how."))
    add_limits(parser.add_argument_group("limits", "Where trials are no candidates, and where the search ends."))
    add_where(parser.add_argument_group("where", "Slots, storage and tracking."))
    add_setting_flags(parser)


def add_what(group: argparse._ArgumentGroup) -> None:
    """Losses, space, sampler, trials and seeds."""
    group.add_argument("--losses", "--loss", default="fipo", metavar="A,B", help="searched apart (default: fipo)")
    group.add_argument(
        "--space",
        default="default",
        metavar="NAME",
        help="default (each loss's own), decay_rate, clip_range, safety_threshold, clip_and_safety, or "
        "a TOML file (default: default)",
    )
    group.add_argument("--preset", default="demo", metavar="NAME", help="what all runs share (default: demo)")
    group.add_argument(
        "--family", default="controlled", metavar="F", help="whose arms the losses are (default: controlled)"
    )
    add_claims(group)
    group.add_argument("--trials", type=int, metavar="N", help="trials per loss (default: 12; a grid: all of it)")
    group.add_argument("--seeds", type=int, metavar="N", help="tuning seeds per trial, from 1000 (default: 2)")
    group.add_argument(
        "--report_seeds", type=int, metavar="N", help="fresh seeds for the winners (default: 5; none for a design)"
    )
    group.add_argument("--first_report_seed", type=int, default=0, metavar="N", help="the lowest of them (default: 0)")
    group.add_argument(
        "--sampler", metavar="S", help="tpe, gp, qmc, random or grid (default: the space's own, else tpe)"
    )
    group.add_argument("--sampler_seed", type=int, default=0, metavar="N", help="keys its draws (default: 0)")
    group.add_argument(
        "--pruner",
        default="none",
        metavar="P",
        help="none, or asha: stop a trial whose first seed is in the worse half at an evaluation. It saves time, and "
        "trusts early accuracy: learning curves cross, length grows late, and what starts slowly is lost, so a range "
        "that was pruned away is no evidence against it (default: none)",
    )


def add_limits(group: argparse._ArgumentGroup) -> None:
    """Constraints and caps."""
    group.add_argument(
        "--limit_response_tokens", type=float, metavar="N", help="mean tokens per answer (default: none)"
    )
    group.add_argument("--limit_truncated_share", type=float, metavar="S", help="answers cut off (default: none)")
    group.add_argument(
        "--limit_collapse",
        type=float,
        default=0.5,
        metavar="S",
        help="least final accuracy of every seed, as a share of that before training (default: 0.5)",
    )
    group.add_argument("--max_hours", type=float, metavar="H", help="end this start after so long (default: none)")
    group.add_argument("--max_tokens", type=float, metavar="N", help="end when so many are generated (default: none)")


def add_where(group: argparse._ArgumentGroup) -> None:
    """Slots, storage, tracking."""
    group.add_argument("--study", metavar="DIR", help="study folder (default: runs/search-<time>)")
    group.add_argument(
        "--storage",
        default="journal",
        metavar="URL",
        help="journal (a file in the study's folder, one host), sqlite:///FILE, or postgresql://USER@HOST/DB for "
        "several hosts (default: journal)",
    )
    group.add_argument(
        "--study_name", metavar="NAME", help="in the storage, the same on every host (default: the folder's name)"
    )
    group.add_argument("--slots", type=int, default=0, metavar="N", help="runs at a time (default: one per core)")
    group.add_argument("--gpus", default="all", metavar="UUIDS", help="UUIDs of nvidia-smi -L, or all (default: all)")
    group.add_argument(
        "--gpus_per_trial", type=int, default=0, metavar="N", help="GPUs of a run; 0: train on the CPU (default: 0)"
    )
    group.add_argument(
        "--tracking_uri", metavar="URI", help="MLflow's; none: no copy (default: sqlite beside the study's folder)"
    )
