"""The commands with their flags. What a command needs is imported when it starts."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import RecordsError

if TYPE_CHECKING:
    from analysis.report.files import Asked


def add_commands(parser: argparse.ArgumentParser) -> None:
    """All commands of `python -m analysis`; each sets `start`, which returns the exit code."""
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="report | figures | verify | checkpoints | claims"
    )
    report = commands.add_parser("report", help="a study's figures, verdict and report.html")
    report.add_argument("folders", type=Path, nargs="+", metavar="RUNS", help="a study folder, or run folders")
    report.add_argument("--output_dir", type=Path, metavar="DIR", help="where to (default: STUDY/report, or ./report)")
    add_reading(report)
    report.set_defaults(start=report_command)
    figures = commands.add_parser("figures", help="the figures alone")
    figures.add_argument("folders", type=Path, nargs="+", metavar="RUNS", help="a study folder, or run folders")
    figures.add_argument("--only", action="append", default=[], metavar="F", help="this figure; may be repeated")
    figures.add_argument("--output_dir", type=Path, metavar="DIR", help="where to (default: STUDY/report, or ./report)")
    add_reading(figures)
    figures.set_defaults(start=figures_command)
    verify = commands.add_parser("verify", help="make a report again from its folders and name every difference")
    verify.add_argument("report", type=Path, metavar="DIR", help="a report's folder")
    verify.add_argument("--runs", type=Path, nargs="+", default=[], metavar="RUNS", help="where its folders are now")
    verify.set_defaults(start=verify_command)
    checkpoints = commands.add_parser("checkpoints", help="two runs' last checkpoints, prompt by prompt: no verdict")
    checkpoints.add_argument("folders", type=Path, nargs=2, metavar="RUN", help="a run folder")
    checkpoints.set_defaults(start=checkpoints_command)
    claims = commands.add_parser("claims", help="what a claims file asks; an error where it cannot be decided")
    claims.add_argument("file", metavar="FILE", help="a TOML file, or a name in analysis/claims")
    claims.set_defaults(start=claims_command)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The flags that say what the course of training is drawn over, and what becomes of damaged runs."""
    parser.add_argument(
        "--skip_bad", action="store_true", help="leave out runs that cannot be read, name them, and draw the rest"
    )
    parser.add_argument(
        "--axis",
        choices=("steps", "prompts", "generated_tokens", "seconds", "flops"),
        default="steps",
        help="what training is drawn over; tokens include discarded ones (default: steps)",
    )


def report_command(given: argparse.Namespace) -> int:
    """Write the report, and print what was found."""
    from analysis.records.alike import alike
    from analysis.records.blocks import is_block_study, read_block_study
    from analysis.records.records import read
    from analysis.records.search import is_search, read_search
    from analysis.report.block_report import write_block_report
    from analysis.report.comparison import write_report
    from analysis.report.manifest import check_output
    from analysis.report.search_report import write_search_report

    output, asked = output_of(given), asked_of(given)
    check_output(output)
    if is_search(given.folders[0]):
        lines = write_search_report(read_search(given.folders[0]), output, asked)
    elif is_block_study(given.folders[0]):
        lines = write_block_report(read_block_study(given.folders[0], given.skip_bad), output, asked)
    else:
        verdict = write_report(alike(read(given.folders, given.skip_bad)), output, asked)
        lines = [*verdict.notes, verdict.sentence, verdict.what_it_would_take]
    for line in (*lines, output / "report.html"):
        print(line)
    return 0


def figures_command(given: argparse.Namespace) -> int:
    """Write the figures alone, and print their paths."""
    from analysis.figures.block_charts import BLOCK_CHARTS
    from analysis.figures.charts import ALL_CHARTS
    from analysis.figures.search_charts import SEARCH_CHARTS
    from analysis.records.blocks import is_block_study, read_block_study
    from analysis.records.records import read
    from analysis.records.search import is_search, read_search
    from analysis.report.block_report import write_block_figures
    from analysis.report.comparison import write_figures
    from analysis.report.search_report import write_search_figures

    search, blocks = is_search(given.folders[0]), is_block_study(given.folders[0])
    kind = "search" if search else "study of blocks" if blocks else "comparison"
    known = list(SEARCH_CHARTS if search else BLOCK_CHARTS if blocks else ALL_CHARTS)
    if wrong := [name for name in given.only if name not in known]:
        raise RecordsError(
            f"expected figures of a {kind} ({', '.join(known)}), got --only {wrong[0]}: choose from these"
        )
    output = output_of(given)
    if search:
        names = write_search_figures(read_search(given.folders[0]), output, asked_of(given), given.only)
    elif blocks:
        study = read_block_study(given.folders[0], given.skip_bad)
        names = write_block_figures(study, output, asked_of(given), given.only)
    else:
        names = write_figures(read(given.folders, given.skip_bad), output, asked_of(given), given.only)
    for name in names:
        print(output / "figures" / f"{name}.png")
    return 0


def verify_command(given: argparse.Namespace) -> int:
    """Make a report again and name every difference; 1 where there is one."""
    from analysis.report.rebuild import rebuild
    from analysis.report.verify import verify

    found = verify(given.report, given.runs, rebuild)
    for line in (*found.notes, *found.differences):
        print(line)
    if found.differences:
        print(f"not verified: {len(found.differences)} differences")
        return 1
    kind = "data files" if found.notes else "files"
    print(f"verified: {found.compared} {kind} are what the folders give")
    return 0


def asked_of(given: argparse.Namespace) -> "Asked":
    """What was asked for, for those who write."""
    from analysis.report.files import Asked

    spelled = " ".join(shlex.quote(str(folder)) for folder in given.folders)
    return Asked(tuple(given.folders), spelled, given.axis, given.skip_bad)


def output_of(given: argparse.Namespace) -> Path:
    """Where to write: as told, into the one study, or beside the runs."""
    is_study = len(given.folders) == 1 and (given.folders[0] / "study.json").is_file()
    default = given.folders[0] / "report" if is_study else Path("report")
    return given.output_dir or default


def checkpoints_command(given: argparse.Namespace) -> int:
    """Print how two checkpoints differ on the same prompts."""
    from analysis.records.records import read
    from analysis.statistics.checkpoints import compare_checkpoints

    first, second = (path.resolve().name for path in given.folders)
    print(compare_checkpoints(read(given.folders).evals, first, second).sentence)
    return 0


def claims_command(given: argparse.Namespace) -> int:
    """Print the claims of a file, one to a line."""
    from analysis.records.claims import claims_file, read_claims

    claims = read_claims(claims_file(given.file))
    print(f"{claims.title} (sha256 {claims.sha256})")
    for claim in claims.claims:
        print(f"{claim.role:11} {claim.kind:10} {claim.id}: {claim.text} ({claim.metric}, margin {claim.margin:g})")
    return 0
