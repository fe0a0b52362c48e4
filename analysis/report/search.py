"""A search -> its report: what its winners reached on fresh seeds first, then the exploratory part about its trials."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from math import nan
from pathlib import Path

from analysis.figures.catalogue import NAMES, SEARCH, search_figures
from analysis.formatting import plain, with_interval
from analysis.records.provenance import Source, commits
from analysis.records.search import Search
from analysis.report.files import Asked, json_text, write_figures, write_files
from analysis.report.page import Section, Shown, box, bullets, figure, figures, folded, page, paragraph
from analysis.report.study import write_study_report
from analysis.report.tables import Table
from analysis.verdict.search import (
    EXPLORATORY,
    SearchFindings,
    best_sentence,
    found_sentences,
    fresh_accuracy,
    searched_sentence,
    settings_of,
    unfinished_note,
)
from analysis.verdict.sentences import control_sentences


def write_search_report(found: SearchFindings, output: Path, asked: Asked) -> list[str]:
    """Write the report, search.json and the figures into `output`, and hand back the sentences of what was found.

    The winners' own report is written beside their runs.
    """
    winners = found.search.folder / "winners" / "report"
    if found.winners is not None:
        own = replace(asked, folders=(winners.parent,), given=f"{asked.given}/winners", name="")
        write_study_report(found.winners, winners, own)
    source = search_source(found.search, asked.given)
    shown = write_figures(search_figures(found), output, source)
    link = os.path.relpath(winners / "report.html", output).replace(os.sep, "/")
    write_files({"report.html": search_page(found, shown, link, source), **search_files(found)}, shown, output, asked)
    return found_sentences(found)


def search_files(found: SearchFindings) -> dict[str, str]:
    """The files beside the page, by name."""
    return {"search.json": json_text(found.as_json())}


def search_source(search: Search, given: str) -> Source:
    """The source of every figure of a search."""
    runs = [
        f"{row['loss']}-trial{row['trial']:04d}-seed{int(seed)}"
        for _, row in search.trials.iterrows()
        for seed in row["seeds"]
    ]
    recorded = search.description.get("claims")
    claims = f"claims {recorded['name']}, sha256 {recorded['sha256']}" if recorded else "no claims were fixed"
    made = "no commit named" if search.environments.empty else commits(search.environments)
    return Source(runs, made, claims, given, NAMES)


def search_page(found: SearchFindings, shown: Sequence[Shown], link: str, source: Source) -> str:
    """The whole page. shown: the figures, that of the winners' claims first where there are; link: to their report."""
    search = found.search
    given = [str(search.description.get(name) or "not named") for name in ("preset", "space")]
    subtitle = f"{searched_sentence(search)} Preset {given[0]}, space {given[1]}; {source.commits}."
    groups = [(name, group, figures(shown[1:], name, source)) for name, group in SEARCH.items()]
    return page(
        f"Search {search.name}",
        subtitle,
        f'<div class="screen"><div>{_words(found, link)}</div>\n<div>{figure(shown[0], source)}</div></div>\n'
        f"{winners_table(found).html}",
        [Section(name.replace("_", "-"), group.title, html) for name, group, html in groups],
    )


def _words(found: SearchFindings, link: str) -> str:
    """The first screen's words: fresh seeds, then what was found in tuning and what it may be taken for."""
    winners, note = found.winners, unfinished_note(found.search)
    fresh = f"<p><b>{escape(found_sentences(found)[0])}</b></p>"
    if winners is not None:
        fresh += f'<p><a href="{escape(link)}">The full report of these runs</a></p>'
    presets = [shlex.quote(str(found.search.folder / best.preset)) for best in found.bests if best.preset]
    return "".join(
        [
            box("warning", paragraph(note) if note else ""),
            box("verdict", fresh),
            folded("What the controls show", bullets(control_sentences(winners)) if winners else ""),
            folded("What was best in tuning", bullets([best_sentence(found, best) for best in found.bests])),
            folded("How far to trust this", paragraph(EXPLORATORY)),
            folded(
                "How to train with these settings",
                "".join(f"<p><code>python -m harness train --preset {escape(preset)}</code></p>" for preset in presets),
            ),
        ]
    )


def winners_table(found: SearchFindings) -> Table:
    """A row per loss and control: best settings, their value in tuning and on fresh seeds, and what a run cost."""
    bests, fresh = {best.loss: best for best in found.bests}, fresh_accuracy(found)
    study = found.winners.study if found.winners else None
    rows = []
    for name in [*bests, *(name for name in fresh if name not in bests)]:
        best, label = bests.get(name), study.label(name) if study else found.search.label(name)
        settings = f"those of {study.label(study.role(name).against or name)}" if study else ""
        cells = [label, settings_of(best) if best else settings, plain(best.value if best else nan)]
        if found.winners is not None:
            of_arm = found.winners.scores[found.winners.scores["arm"] == name]
            cells.append(with_interval(fresh[name]) if name in fresh else "n/a")
            cells += [plain(of_arm["generated_tokens"].mean() / 1000, 0), plain(of_arm["seconds"].mean(), 0)]
        rows.append(cells)
    head = ["Loss", "Best settings", "In tuning"]
    return Table([*head, *(["On fresh seeds", "Tokens, thousands", "Seconds"] if study else [])], rows, words=2)
