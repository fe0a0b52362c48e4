"""The commands with their flags. What a command needs is imported when it starts."""

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.report.files import Asked

AXES = ("steps", "prompts", "generated_tokens", "seconds", "flops")
WIDTHS = ("double", "single")
FORMATS = ("csv", "mlflow", "trl", "swift", "verl", "verl-answers", "lm-eval")


def add_commands(parser: argparse.ArgumentParser) -> None:
    """All commands of `python -m analysis`; each sets `start`, which returns the exit code."""
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="report | figures | verify | claims | import"
    )
    report = commands.add_parser("report", help="the verdict, figures and tables of a study as report.html")
    report.set_defaults(start=report_command)
    figures = commands.add_parser("figures", help="the figures alone")
    figures.add_argument("--only", action="append", default=[], metavar="F", help="this figure; may be repeated")
    words = "double: a page of 7.2 inches; single: a paper's column of 3.3 inches, as NAME_single (default: double)"
    figures.add_argument("--width", choices=WIDTHS, default="double", help=words)
    figures.set_defaults(start=figures_command)
    for command in (report, figures):
        _add_reading(command)
    verify = commands.add_parser("verify", help="make a report's data again from its folders and name what differs")
    verify.add_argument("report", type=Path, metavar="DIR", help="a report's folder")
    verify.add_argument("--runs", type=Path, nargs="+", default=[], metavar="RUNS", help="where its folders are now")
    verify.set_defaults(start=verify_command)
    claims = commands.add_parser("claims", help="what a claims file asks; an error where it cannot be decided")
    claims.add_argument("file", metavar="FILE", help="a TOML file, or a name in analysis/claims")
    claims.set_defaults(start=claims_command)
    _add_import(commands.add_parser("import", help="other trainers' logs as run folders of a study"))


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUNS", help="a study folder, or run folders")
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="where to (default: STUDY/report, or ./report)")
    words = "what training is drawn over; tokens include discarded ones (default: steps)"
    parser.add_argument("--axis", choices=AXES, default="steps", help=words)


def _add_import(parser: argparse.ArgumentParser) -> None:
    words = "output folders, logs, tables or stores of TRL, verl, ms-swift, lm-eval, MLflow or W&B, or any CSV"
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=words)
    parser.add_argument("--study", type=Path, required=True, metavar="DIR", help="the study that the runs go to")
    parser.add_argument("--arm", metavar="NAME", help="the runs' arm (default: the ARM of a source named ARM-seedN)")
    words = "the run's seed (default: that of its name or settings)"
    parser.add_argument("--seed", type=_whole, metavar="N", help=words)
    parser.add_argument("--format", choices=FORMATS, help="what SOURCE is (default: recognised)")
    words = (
        "what is what, as accuracy=val/acc,step=step, or a TOML or YAML file of it; may be repeated (docs/your-logs.md)"
    )
    parser.add_argument("--columns", action="append", default=[], metavar="NAME=COLUMN", help=words)
    words = "the run's settings, as YAML, JSON or TOML; a name is looked for in each SOURCE first"
    parser.add_argument("--config", metavar="FILE", help=words)
    words = "held-out answers by question: verl's validation_data_dir or lm-eval's samples; may be repeated"
    parser.add_argument("--answers", action="append", default=[], metavar="PATH", help=words)
    parser.add_argument("--filter", metavar="NAME", help="the filter of lm-eval whose answers count")
    parser.add_argument("--percent", action="store_true", help="accuracies are given in percent")
    words = "what the study is to decide, when its first run is imported: a TOML file, or a name in analysis/claims"
    parser.add_argument("--claims", metavar="FILE", help=words)
    parser.set_defaults(start=import_command)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def import_command(given: argparse.Namespace) -> int:
    """Write the runs of every source, and print their folders and what was noticed."""
    from analysis.imports.command import import_runs

    print("\n".join(import_runs(given)))
    return 0


def report_command(given: argparse.Namespace) -> int:
    """Write the report, and print what was found."""
    from analysis.report.build import write_report

    output = output_of(given)
    for line in (*write_report(asked_of(given), output), output / "report.html"):
        print(line)
    return 0


def figures_command(given: argparse.Namespace) -> int:
    """Write the figures alone, and print their paths."""
    from analysis.report.build import write_only

    output = output_of(given)
    for name in write_only(replace(asked_of(given), width=given.width), output, given.only):
        print(output / "figures" / f"{name}.png")
    return 0


def verify_command(given: argparse.Namespace) -> int:
    """Make a report's data again and name what differs; 1 where something does."""
    from analysis.report.verify import verify

    inside = given.report / "report"  # where the study's folder is given
    differences, count = verify(inside if inside.is_dir() else given.report, given.runs)
    print("\n".join(differences) if differences else f"verified: {count} data files are what the folders give")
    return int(bool(differences))


def claims_command(given: argparse.Namespace) -> int:
    """Print the claims of a file, one to a line."""
    from analysis.records.claims import claims_file, read_claims

    claims = read_claims(claims_file(given.file))
    print(f"{claims.title} (sha256 {claims.sha256})")
    for claim in claims.claims:
        print(f"{claim.role:11} {claim.kind:10} {claim.id}: {claim.text} ({claim.metric}, margin {claim.margin:g})")
    return 0


def asked_of(given: argparse.Namespace) -> "Asked":
    """What was asked for, for those who write."""
    from analysis.report.files import Asked

    spelled = " ".join(shlex.quote(str(folder)) for folder in given.folders)
    return Asked(tuple(given.folders), spelled, given.axis)


def output_of(given: argparse.Namespace) -> Path:
    """Where to write: as asked, into the one study, or here, where no report of other runs may be."""
    from analysis.report.manifest import check_folders

    if given.output_dir:
        return Path(given.output_dir)
    if len(given.folders) == 1 and (given.folders[0] / "study.json").is_file():
        return Path(given.folders[0] / "report")
    check_folders(Path("report"), given.folders)
    return Path("report")
