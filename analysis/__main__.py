"""The command line: `python -m analysis report STUDY` and `python -m analysis figures STUDY_OR_RUNS...`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from analysis.charts import CHARTS
from analysis.records import RecordsError, read, read_study
from analysis.report import write_figures, write_report
from analysis.search_charts import SEARCH_CHARTS
from analysis.search_records import is_search, read_search
from analysis.search_report import write_search_figures, write_search_report

WRONG_USE = 2


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage that --help shows."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when done, 2 with one line on stderr when something given is wrong."""
    given = _parser().parse_args(arguments)
    try:
        if given.command == "report":
            _report(given.study, given.output or given.study / "report")
        else:
            _figures(given.folders, given.output, given.only)
    except (RecordsError, OSError) as error:
        print(f"analysis {given.command}: {error}", file=sys.stderr)
        return WRONG_USE
    return 0


def _report(study: Path, output: Path) -> None:
    if is_search(study):
        lines = write_search_report(read_search(study), output)
    else:
        verdict = write_report(read_study(study), output)
        lines = [*verdict.notes, verdict.sentence, verdict.what_it_would_take]
    for line in (*lines, output / "report.html"):
        print(line)


def _figures(folders: list[Path], output: Path | None, only: list[str]) -> None:
    search = len(folders) == 1 and is_search(folders[0])
    known = SEARCH_CHARTS if search else CHARTS
    if wrong := [name for name in only if name not in known]:
        kind = "search" if search else "comparison"
        raise RecordsError(
            f"expected figures of a {kind} ({', '.join(known)}), got --only {wrong[0]}: choose from these"
        )
    if search:
        chosen = output or folders[0] / "report"
        names = write_search_figures(read_search(folders[0]), chosen, only)
    else:
        study = read(folders)
        chosen = output or (folders[0] / "report" if study.description else Path("report"))
        names = write_figures(study, chosen, only)
    for name in names:
        print(chosen / "figures" / f"{name}.png")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(prog="analysis", description="Run and study folders -> figures, tables and a report.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="report | figures")
    report = commands.add_parser("report", help="a study's figures and its report.html")
    report.add_argument("study", type=Path, help="study folder, as `python -m sweeps compare` or `search` printed it")
    report.add_argument("--output", type=Path, help="folder to write into (default: STUDY/report)")
    figures = commands.add_parser("figures", help="the figures alone, of a study or of any runs")
    figures.add_argument("folders", type=Path, nargs="+", help="one study folder, or run folders")
    figures.add_argument(
        "--only",
        choices=[*CHARTS, *SEARCH_CHARTS],
        action="append",
        default=[],
        help="this figure, of a comparison or of a search; may be repeated",
    )
    figures.add_argument("--output", type=Path, help="folder to write into (default: STUDY/report, for runs ./report)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
