"""The command `audit`."""

import argparse
from pathlib import Path

from harness.cli.parser import OneLineParser, Subparsers
from harness.errors import UsageError

SHOWN = 40


def add(subparsers: Subparsers) -> None:
    """The command `audit`."""
    parser: OneLineParser = subparsers.add_parser(
        "audit", allow_abbrev=False, help="list the answers on which string match and math-verify disagree"
    )
    parser.add_argument("folder", metavar="RUN", help="folder of a run of --task math, or of an evaluation")
    parser.add_argument("--output_dir", metavar="DIR", help="new folder for the whole list, audit.parquet")
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    """Print the counts and the most frequent disagreements."""
    from harness.evaluation.audit import AUDIT_SCHEMA, audit, audit_lines
    from harness.files import write_table
    from harness.run.record import make_folder, refuse_used_folder

    folder, out = Path(options.folder), Path(options.output_dir) if options.output_dir else None
    if not folder.is_dir():
        raise UsageError(f"audit: expected the folder of a run or an evaluation, got {str(folder)!r}: it is none")
    if out:
        refuse_used_folder(out)
    found = audit(folder)
    for line in audit_lines(found, SHOWN):
        print(line)
    if out:
        make_folder(out)
        write_table(out / "audit.parquet", found.rows, AUDIT_SCHEMA)
        print(f"all of them: {out / 'audit.parquet'}")
