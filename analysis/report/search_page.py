"""The page of a search's report: what was found first, then figures and tables."""

import os
import shlex
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from analysis.figures.search_charts import PED_WARNING
from analysis.figures.style import arm_label
from analysis.records.provenance import Source, commits
from analysis.records.search import Search
from analysis.report.page import Section, Shown, box, bullets, figure, page, paragraph
from analysis.report.search_tables import (
    acted_table,
    best_table,
    grid_claims_table,
    settings_table,
    trials_table,
    without_value_table,
)
from analysis.report.search_winners import Winners
from analysis.verdict.search_findings import SearchFindings
from analysis.verdict.search_sentences import (
    EXPLORATORY,
    best_sentence,
    searched_sentence,
    unfinished_note,
    winner_sentence,
)

# group of figures: (entry in the contents, heading)
GROUPS = {
    "designed_grid": ("Designed grid", "The designed grid and its trend"),
    "history": ("History", "Optimisation history"),
    "expected_maximum": ("Trials spent", "Best found against trials spent"),
    "slices": ("Slices", "Value over each parameter"),
    "contour": ("Contour", "Clip range and safety threshold together"),
    "importance": ("Importance", "Importance of the parameters"),
}
BEST_NOTE = (
    "Value in tuning: mean over the tuning seeds [95 % t interval]. By luck alone: how far the best of as many equally "
    "good feasible trials would lie above their common truth, from the spread that neither trial nor seed explains."
)
ACTED_NOTE = (
    "The share of trained tokens, over all steps and seeds of a trial, on which the parameter made a difference to "
    "the loss. Where it never acted, every difference between its values is chance."
)


def search_page(found: SearchFindings, shown: Sequence[Shown], fresh: Winners, place: tuple[Path, Source]) -> str:
    """The whole page; place: the folder that it will stand in, from where its links lead on, and its source."""
    search, (output, source) = found.search, place
    sections = [*_figure_sections(found, shown, source), *_table_sections(found)]
    return page(
        f"Search {search.name}", _subtitle(search, bool(found.claims)), _first_screen(found, fresh, output), sections
    )


def _subtitle(search: Search, fixed: bool) -> str:
    preset, space = (str(search.description.get(name) or "not named") for name in ("preset", "space"))
    made = "no run names its commit" if search.environments.empty else commits(search.environments)
    explores = "exploratory" + (" but for the claims that were fixed before the runs" if fixed else "")
    return f"Preset {preset}, space {space}; {explores}. {made[0].upper()}{made[1:]}."


def _first_screen(found: SearchFindings, fresh: Winners, output: Path) -> str:
    search = found.search
    parts = [paragraph(searched_sentence(search))]
    if note := unfinished_note(search):
        parts.append(box("warning", paragraph(note)))
    if found.claims:
        parts += [
            "<h3>Claims fixed before the runs</h3>",
            grid_claims_table(found.claims),
            box("verdict", bullets([one.sentence for one in found.claims])),
        ]
    sentences = [*(best_sentence(best) for best in found.bests), *(item.sentence for item in found.trends)]
    parts += [box("verdict", bullets(sentences)), box("warning", paragraph(EXPLORATORY))]
    parts += [best_table(found.bests, fresh.rows), f'<p class="soft">{escape(BEST_NOTE)}</p>', *_commands(found)]
    parts += ["<h3>On fresh seeds</h3>", _fresh(fresh, output)]
    if inert := [item.sentence for item in found.acted if item.sentence]:
        parts += ["<h3>What did nothing here</h3>", bullets(inert)]
    return "\n".join(parts)


def _fresh(fresh: Winners, output: Path) -> str:
    if fresh.page is None:
        return paragraph(fresh.note)
    link = escape(os.path.relpath(fresh.page, output).replace(os.sep, "/"))
    rows = bullets([winner_sentence(winner) for winner in fresh.rows])
    return f'{rows}{paragraph(fresh.verdict)}<p><a href="{link}">The report of these runs</a></p>'


def _commands(found: SearchFindings) -> Iterator[str]:
    """How to train each loss with what the search found."""
    for best in found.bests:
        if best.preset is not None:
            command = f"python -m harness train --preset {shlex.quote(best.preset)}"
            yield f"<p>Train {escape(arm_label(best.loss))} so: <code>{escape(command)}</code></p>"


def _figure_sections(found: SearchFindings, shown: Sequence[Shown], source: Source) -> Iterator[Section]:
    for group, (short, title) in GROUPS.items():
        items = [item for item in shown if item.name.startswith(group)]
        heads = [f"<h3>{escape(item.title)}</h3>" if len(items) > 1 else "" for item in items]
        html = "\n".join(head + figure(item, source) for head, item in zip(heads, items, strict=True))
        if group == "importance" and not items:
            html = _no_importance(found.search)
        if html:
            yield Section(group.replace("_", "-"), short, title, html)


def _table_sections(found: SearchFindings) -> Iterator[Section]:
    search = found.search
    acted = acted_table(found.acted) + f'<p class="soft">{escape(ACTED_NOTE)}</p>'
    tables = [f"<h3>{escape(arm_label(loss))}</h3>{trials_table(search, loss)}" for loss in search.losses]
    without = without_value_table(search)
    yield Section("acted", "What acted", "Which parameters acted", acted)
    yield Section("without-value", "Without a value", "Trials that ended without a value or over a limit", without)
    yield Section("trials", "All trials", "All trials, best first", "\n".join(tables))
    yield Section("settings", "Settings", "Settings of the search", settings_table(found))


def source_of_search(search: Search, given: str) -> Source:
    """The source of every figure of a search."""
    runs = [
        f"{row['loss']}-trial{row['trial']:04d}-seed{int(seed)}"
        for _, row in search.trials.iterrows()
        for seed in row["seeds"]
    ]
    recorded = search.description.get("claims")
    claims = f"claims {recorded['name']}, sha256 {recorded['sha256']}" if recorded else "no claims were fixed"
    made = "no commit named" if search.environments.empty else commits(search.environments)
    return Source(runs, made, claims, given, tuple(GROUPS))


def _no_importance(search: Search) -> str:
    """Why there is no figure of importances."""
    notes = [f"{arm_label(loss)}: {_why(search, loss)}." for loss in search.losses]
    return bullets(notes) + f'<p class="soft">{escape(PED_WARNING)}</p>'


def _why(search: Search, loss: str) -> str:
    if len(search.searched(loss)) < 2:
        return "only one parameter was searched, so there is nothing to share out"
    return str((search.importance.get(loss) or {}).get("note") or "not computed")
