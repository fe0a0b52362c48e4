"""What a study found, in sentences; each claims no more than its interval does."""

from math import isnan

from analysis.formatting import counted, listed, plain
from analysis.records.outcomes import OUTCOMES
from analysis.records.provenance import confounds
from analysis.statistics.intervals import FEWEST_SEEDS
from analysis.verdict.findings import Findings
from analysis.verdict.verdicts import Verdict

NOTHING = "There is nothing to compare: no claim's arms have runs."
ONE_ARM = "There is nothing to compare: only one arm has runs."
TESTS = {
    "paired": "paired t",
    "signed-rank": "signed ranks",
    "welch": "Welch's t",
}


def statement(row: Verdict) -> str:
    """The word, the claim, its effect with the interval that decides, and on what it rests."""
    word = f"{row.word[:1].upper()}{row.word[1:]}"
    if row.identical:
        return f"{word}. {row.claim.text}: the two arms are the same runs bit for bit [{row.key}]."
    seeds, (n, other) = counted(row.evidence.seeds, row.units[0]), row.evidence.n
    if row.evidence.method == "welch" and n != other:
        seeds = f"{n} and {other} {row.units[0]}s"
    test = TESTS[row.evidence.method].replace("paired", "one-sample" if row.claim.baseline is None else "paired")
    numbers = f"{row.effect} {row.unit}, {seeds}, {test}"
    return f"{word}. {row.claim.text}: {numbers} [{row.key}]."


def control_sentences(found: Findings) -> list[str]:
    """What the controls show, or that none was planted."""
    if not found.controls:
        return ["No control was run, so nothing shows which effects could have been seen here."]
    return [f"{control.sentence.rstrip('.')} [{control.key}]." for control in found.controls]


def headline(found: Findings) -> str:
    """How many primary claims have which word; without any, how many exploratory ones."""
    rows = found.primary or found.verdicts
    if not rows:
        return NOTHING if found.study.claims else ONE_ARM
    kind = "primary claim" if found.primary else "exploratory comparison"
    caveat = " The arms differ in more than the loss." if confounds(found.study) else ""
    if not any(row.evidence.has_enough_seeds for row in rows):
        seeds, unit = max(row.evidence.seeds for row in rows), found.study.units[0]
        return (
            f"Fewer than {FEWEST_SEEDS} {unit}s: {counted(len(rows), kind)} {_are(len(rows))} undecided, since no "
            f"significance is claimed from {counted(seeds, unit)}.{caveat}"
        )
    counts = dict[str, int]()
    for row in rows:
        counts[row.decision] = counts.get(row.decision, 0) + 1
    parts = [f"{count} {_are(count)} {word}" for word, count in counts.items()]
    return f"Of {counted(len(rows), kind)} {listed(parts)}.{caveat}"


def what_it_would_take(found: Findings) -> str:
    """Seeds that would decide the undecided primary claims, from the spread that the deciding test sees.

    Of an imported study without claims, the undecided pairs.
    """
    rows = found.verdicts if found.study.is_imported and not found.study.claims else found.primary
    undecided = [row for row in rows if row.decision == "undecided"]
    needs = "; ".join(f"{row.claim.text}: {_need(row)}" for row in undecided)
    words = (
        "What it would take to decide these (80 % power, if the true effect exceeds the margin by one margin; "
        f"for an equivalence, if there is no effect): {needs}."
    )
    if not undecided:
        more = "more seeds" if found.study.is_imported else f"other {found.study.units[1]}s"
        words = f"What it would take to know more: {more if found.verdicts else 'another arm'}."
    return words


def detectable(row: Verdict) -> str:
    """The effect that such seeds would have found in four studies of five."""
    if row.evidence.smallest_detectable is None or isnan(row.evidence.low):
        return "so few seeds can decide nothing at this level"
    kind = "a margin" if row.claim.kind == "equivalent" else "an effect"
    how = ", by the t test's formula" if row.evidence.by_ranks else ""
    digits = OUTCOMES[row.claim.metric].digits
    return f"{kind} of {plain(row.evidence.smallest_detectable, digits)} would be found four times in five{how}"


def limits(found: Findings) -> str:
    """What the intervals are conditional on, and what holds only here."""
    study, starts, (seed, start) = found.study, found.study.warm_starts, found.study.units
    seeds_only = [row.key for row in found.verdicts if row.decision in _DECIDED and not row.holds_over_starts]
    if study.is_imported:
        units = f"Whether the {seed}s share one {start} is not known."
    elif starts < 2:
        units = f"All {seed}s share one {start}, so the intervals say nothing about other {start}s."
    else:
        units = f"All intervals are conditional on these {starts} {start}s."
        if seeds_only:
            units += f" With {start}s as units in place of {seed}s, {listed(seeds_only)} would not be decided."
    steps = sorted({int(config["run"]["steps"]) for config in study.configs.values() if "steps" in config["run"]})
    models = sorted({str(config["model"]["model"]) for config in study.configs.values() if config.get("model")})
    about = [f"model {listed(models)}"] if models else []
    about += [f"{listed([f'{count:,}' for count in steps])} steps"] if steps else []
    return f"{units} All of it is about this task{', ' if about else ''}{listed(about)}."


def cost(found: Findings) -> str:
    """Runs, generated tokens, and the hours that the runs took; of imported runs what all of their logs tell."""
    runs, study = found.scores.drop_duplicates("run"), found.study
    tokens, hours = runs["generated_tokens"] / 1e6, runs["seconds"] / 3600
    if study.is_imported:
        known = [f"{tokens.sum():,.1f} million generated tokens"] if tokens.notna().all() else []
        known += [f"{hours.sum():,.2f} hours by their logs"] if hours.notna().all() else []
        return ", ".join([counted(len(runs), "run"), *known]) + ("" if known else ", whose cost is not known")
    threads = study.environments.set_index("run")["threads"].reindex(runs["run"]).fillna(1).to_numpy(float)
    return (
        f"{counted(len(runs), 'run')}, {tokens.sum():,.1f} million generated tokens, {hours.sum():,.2f} hours of "
        f"training ({(hours * threads).sum():,.2f} CPU-hours)"
    )


_DECIDED = ("supported", "contradicted")


def _need(row: Verdict) -> str:
    if row.claim.margin == 0:
        return f"no margin was declared; {detectable(row)}"
    if row.evidence.seeds_needed is None:
        return "cannot be estimated from these runs"
    now = f" ({detectable(row)} now)" if row.evidence.has_enough_seeds else ""
    return f"about {max(row.evidence.seeds_needed, FEWEST_SEEDS):,} {row.units[0]}s per arm{now}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
