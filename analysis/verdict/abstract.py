"""The abstract of a study of several blocks: ten sentences, each made from rows of the verdict table that it names."""

from collections.abc import Sequence

from analysis.figures.style import arm_label
from analysis.formatting import counted, listed, plain
from analysis.verdict.block_findings import BlockFindings
from analysis.verdict.block_verdicts import UNITS, BlockVerdict
from analysis.verdict.mechanism import Mechanism

ACRONYMS = ("FIPO", "DAPO", "GRPO")


def abstract(answer: BlockFindings) -> list[str]:
    """Asked; controls; the demo's preset; stress; credit; shuffles; blame; rates; grids; limits."""
    of = {row.claim.id: row for row in answer.verdicts}

    def told(*ids: str) -> str:
        return "; ".join(statement(of[one]) for one in ids if one in of)

    return [
        asked(answer),
        sentence("; ".join(f"{control.sentence.rstrip('.')} [{control.key}]" for control in answer.controls)),
        sentence(told("fipo_above_dapo", "fipo_equals_dapo")),
        sentence(told("wide_above_dapo_under_stress", "fipo_above_dapo_under_stress")),
        sentence(told("token_weights_above_sign_means", "sign_means_above_dapo") + shares(answer.stress, "M")),
        sentence(told("token_weights_above_shuffled_within", "token_weights_above_shuffled", "shuffled_above_dapo")),
        sentence(told("placement_of_blame", "damped_negatives_help", "blame_above_damp") + shares(answer.blame, "B")),
        sentence(told("fipo_above_dapo_at_own_best", "wide_above_dapo_at_own_best", "wide_holds_over_more_rates")),
        sentence(told(*(row.claim.id for row in answer.verdicts if row.claim.is_trend))),
        limits(answer),
    ]


def statement(row: BlockVerdict) -> str:
    """A claim in the words of its verdict, with effect, interval, and for a null what would have been found."""
    text = row.claim.text if row.claim.text.startswith(ACRONYMS) else row.claim.text[:1].lower() + row.claim.text[1:]
    numbers = f"{row.effect} {UNITS[row.claim.metric]}, {counted(len(row.differences), 'seed')}"
    word, _, why = row.word.partition(", ")
    if word == "supported":
        return f"{text} ({numbers}{f'; {why}' if why else ''}) [{row.key}]"
    if word == "contradicted":
        return f"that {text} is contradicted ({numbers}{f'; {why}' if why else ''}) [{row.key}]"
    return f"whether {text} is undecided{f' ({why})' if why else ''} ({numbers}; {detectable_words(row)}) [{row.key}]"


def detectable_words(row: BlockVerdict) -> str:
    """What such seeds would have found."""
    if row.detectable is None:
        return "so few seeds can find nothing at this level"
    kind = "a margin" if row.claim.kind == "equivalent" else "an effect"
    how = ", by the t test's formula" if row.collapsed else ""
    return f"{kind} of {plain(row.detectable, row.digits)} would have been found four times in five{how}"


def sentence(text: str) -> str:
    """The clauses as a sentence; empty ones say so."""
    return f"{text[:1].upper()}{text[1:]}." if text else "Not asked in this study."


def asked(answer: BlockFindings) -> str:
    """What was asked, of how many runs, and when that was fixed."""
    study, found = answer.found.study, answer.found
    fixed = study.description.get("claims") or {}
    primary = sum(row.is_primary for row in answer.verdicts)
    runs = len(set(found.scores["run"]))
    hashed = (
        f"fixed with sha256 {str(fixed['sha256'])[:12]} before the first run" if fixed else "not fixed before the runs"
    )
    return (
        "Asked: whether the losses differ, over which learning rates, and what a gain is made of, in "
        f"{counted(runs, 'run')} of {counted(len(found.blocks), 'block')} over "
        f"{counted(found.warm_starts, 'warm start')}; {counted(primary, 'primary claim')} and "
        f"{len(answer.verdicts) - primary} exploratory ones were {hashed} [{_keys(answer)}]."
    )


def shares(item: Mechanism | None, key: str) -> str:
    """What the placebos keep of a gain."""
    if item is None or not item.shares:
        return ""
    return f"; shares of the gain of {arm_label(item.whole)} over DAPO: {item.share_words} [{key}]"


def limits(answer: BlockFindings) -> str:
    """What the intervals are given, and what holds only here."""
    starts = answer.found.warm_starts
    undecided = [row for row in answer.verdicts if row.is_primary and row.word.startswith("undecided")]
    missed = (
        f"the {counted(len(undecided), 'undecided primary claim')} leave room for every effect inside their intervals"
        if undecided
        else "no primary claim is undecided"
    )
    steps = sorted({int(config["run"]["steps"]) for config in answer.found.study.configs.values()})
    return (
        f"All intervals are given these {counted(starts, 'warm start')} (the table has them with the warm start as the "
        f"unit too), {missed}, claims E are exploratory, decided at 5 % each, and all of it is about this task, one "
        f"small model and {listed([str(count) for count in steps])} steps: nothing here says what happens at 7B or 32B "
        f"[{_keys(answer)}]."
    )


def _keys(answer: BlockFindings) -> str:
    keys: Sequence[str] = [row.key for row in answer.verdicts if row.is_primary]
    return f"{keys[0]}-{keys[-1]}" if len(keys) > 1 else "".join(keys)
