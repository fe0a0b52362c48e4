"""The verdict as tables: one for the first screen, one with all the evidence, one for files."""

from collections.abc import Sequence
from html import escape

import pandas as pd

from analysis.formatting import p_value, plain
from analysis.records.claims import Claim
from analysis.records.outcomes import OUTCOMES, PRIMARY
from analysis.report.tables import table
from analysis.verdict.claim_verdicts import ClaimVerdict
from analysis.verdict.verdicts import Verdict, effect_words

MARKS = {
    "supported": "\N{CHECK MARK} supported",
    "contradicted": "\N{MULTIPLICATION X} contradicted",
    "undecided": "? undecided",
}
UNITS = {
    "auc": "AUC",
    "final_accuracy": "final accuracy",
    "final_response_tokens": "tokens per answer",
    "length_slope": "log-odds per log token",
}


def claims_table(verdict: Verdict) -> str:
    """A row per claim with its word, the primary ones first, then those that this study cannot test."""
    rows = [
        [
            item.claim.text + ("" if item.is_primary else " (exploratory)"),
            word(item),
            f"{effect_words(item.evidence, item.claim.metric)} {UNITS[item.claim.metric]}",
            margin_words(item.claim),
            seeds(item),
        ]
        for item in verdict.claims
    ]
    rows += [[text, "not tested here", words, "", ""] for text, words in verdict.not_tested.items()]
    head = ["Claim", "Verdict", "Effect [interval that decides]", "Holds if", "n"]
    return table(head, rows, texts=4)


def evidence_table(claims: Sequence[ClaimVerdict]) -> str:
    """A row per claim, and how far to trust its effect."""
    head = ["Claim", "Effect [interval]", "Level", "p of the margin", "Corrected p", "Paired p (pairs)"]
    head += ["Permutation p", "Smallest detectable", "Seeds per arm for the margin", "Without diverged runs", "Verdict"]
    rows = []
    for item in claims:
        found, digits = item.evidence, OUTCOMES[item.claim.metric].digits
        rows.append(
            [
                f"{arms_words(item.claim)}: {UNITS[item.claim.metric]}",
                effect_words(found, item.claim.metric),
                f"{100 * found.level:.4g} %",
                p_value(found.p),
                p_value(item.p_corrected),
                f"{p_value(found.p_paired)} ({found.pairs})" if item.claim.baseline else "n/a",
                p_value(found.p_permutation),
                plain(found.smallest_detectable, digits),
                "n/a" if found.seeds_needed is None else f"{found.seeds_needed:,}",
                without(item),
                word(item),
            ]
        )
    return table(head, rows)


def claims_frame(claims: Sequence[ClaimVerdict]) -> pd.DataFrame:
    """The same for CSV and LaTeX: a row per claim."""
    rows = []
    for item in claims:
        claim, found = item.claim, item.evidence
        kept = ("metric", "kind", "direction", "margin", "arm", "baseline", "source")
        rows.append(
            {"claim": claim.text, "role": claim.role, **{name: getattr(claim, name) for name in kept}}
            | {"n_arm": found.n[0], "n_baseline": found.n[1], "method": found.method}
            | {"effect": found.effect, "low": found.low, "high": found.high, "level": found.level}
            | {"p": found.p, "p_corrected": item.p_corrected, "p_paired": found.p_paired, "pairs": found.pairs}
            | {"p_permutation": found.p_permutation, "smallest_detectable": found.smallest_detectable}
            | {"seeds_needed": found.seeds_needed, "verdict": found.decision, "reason": item.reason}
        )
    return pd.DataFrame(rows)


def word(item: ClaimVerdict) -> str:
    """The verdict with its mark and, where there is one, its reason."""
    return MARKS[item.evidence.decision] + (f", {item.reason}" if item.reason else "")


def margin_words(claim: Claim) -> str:
    """What the effect must be for the claim to hold."""
    if claim.kind == "equivalent":
        return f"within \N{PLUS-MINUS SIGN}{claim.margin:g}"
    return f"above {claim.margin:g}" if claim.direction == "higher" else f"below {-claim.margin:g}"


def seeds(item: ClaimVerdict) -> str:
    """Seeds of the arm, and of the baseline where there is one."""
    arm, baseline = item.evidence.n
    return f"{arm}" if not baseline else f"{arm}, {baseline}"


def arms_words(claim: Claim) -> str:
    """The difference that is meant: `fipo - dapo`."""
    names = claim.arm if claim.baseline is None else f"{claim.arm} - {claim.baseline}"
    return names.replace(" ", "\N{NO-BREAK SPACE}")


def without(item: ClaimVerdict) -> str:
    """The estimate without diverged runs, where there are any to leave out."""
    if not item.diverged:
        return "none diverged"
    return "none left" if item.without_diverged is None else effect_words(item.without_diverged, item.claim.metric)


def control_table(verdict: Verdict) -> str:
    """The positive control's row; empty where there is none."""
    control = verdict.positive
    if control.evidence is None:
        return ""
    found = control.evidence
    row = [
        f"{control.name} - {control.baseline}: AUC",
        effect_words(found, PRIMARY),
        p_value(found.p),
        f"{p_value(found.p_paired)} ({found.pairs})",
        p_value(found.p_permutation),
        plain(found.smallest_detectable),
        "told apart" if control.passed else "not told apart",
    ]
    head = ["Control", "Effect [95 % t interval]", "Welch p", "Paired p (pairs)", "Permutation p"]
    return table([*head, "Smallest detectable", "At p < 0.01"], [row])


def sources(claims: Sequence[ClaimVerdict]) -> str:
    """Where each claim was made, as a list."""
    lines = "".join(f"<li>{escape(item.claim.text)}: {escape(item.claim.source)}</li>" for item in claims)
    return f"<ul>{lines}</ul>"
