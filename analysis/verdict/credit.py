"""Which losses point nearer to the true gradient, and which weights lie where the true credit lies.

The units of every interval are training seeds, each the mean over its runs, steps and updates; of a single seed, the
steps. Updates are never units: those of one step share responses and weights.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis.formatting import bracket, counted, signed
from analysis.records.credit import PARTS, REFERENCE, RESPONSE, UPDATE, Microscope
from analysis.statistics.intervals import Difference, holm, paired_t, t_interval

FEWEST_SEGMENTS = 6  # of a response: with fewer, a rank correlation is hardly more than a sign
PLACES = 10  # parts of a response
SIGNS = {1: "responses with positive advantage", -1: "responses with negative advantage"}
AGREEMENT = ["quantity", "label", "sign", "of", "responses", "correlation", "low", "high", "units"]
COLUMNS = {"log_ratio": "own shift, log r", "future_kl": "Future-KL"}


@dataclass(frozen=True)
class CreditFindings:
    """A microscope's results with their intervals."""

    microscope: Microscope

    @property
    def unit(self) -> str:
        return "seed" if self.microscope.gradients["seed"].nunique() > 1 else "step"

    @cached_property
    def cosines(self) -> pd.DataFrame:
        """Mean cosine by unit (rows) and candidate (columns)."""
        return self.microscope.cosines(self.unit)

    @cached_property
    def ceiling(self) -> float:
        """The true gradient's own cosine to its estimate: sqrt(2c / (1 + c)), c the mean cosine of two estimates."""
        half = float(self.microscope.gradients["halves_cosine"].mean())
        return float(np.sqrt(np.clip(2 * half / (1 + half), 0, 1)))

    @cached_property
    def directions(self) -> pd.DataFrame:
        """A row per candidate: its cosine; minus DAPO's, with p and Holm's; minus that of the candidate it changes."""
        rows = []
        for name, one in self.microscope.candidates.items():
            own, shown = t_interval(self.cosines[name].dropna().to_numpy()), self._difference(name, REFERENCE)
            rows.append(
                {"candidate": name, "kind": one.kind, "label": one.label, "units": own.n}
                | {"cosine": own.mean, "cosine_low": own.low, "cosine_high": own.high}
                | {"minus_dapo": shown.difference, "low": shown.low, "high": shown.high, "p": shown.p}
            )
            changed = self._difference(name, one.like if one.like in self.microscope.candidates else name)
            rows[-1] |= {"minus_like": changed.difference, "like_low": changed.low, "like_high": changed.high}
        table = pd.DataFrame(rows)
        tested = (table["candidate"] != REFERENCE) & table["p"].notna()
        return table.assign(p_holm=pd.Series(holm(table.loc[tested, "p"].tolist()), table.index[tested], dtype=float))

    @cached_property
    def contrasts(self) -> list[dict[str, Any]]:
        """The parts of a gain whose two candidates were both measured: differences of their cosines over the units."""
        found = []
        for key, (text, candidate, against) in PARTS.items():
            if {candidate, against} <= set(self.microscope.candidates):
                shown = self._difference(candidate, against)
                values = list(self.cosines[candidate] - self.cosines[against])
                head = {"key": key, "text": text, "candidate": candidate, "against": against}
                numbers = {"effect": shown.difference, "low": shown.low, "high": shown.high, "p": shown.p}
                found.append(head | numbers | {"values": values})
        return found

    def _difference(self, candidate: str, against: str) -> Difference:
        both = self.cosines[[candidate, against]].dropna() if candidate != against else self.cosines[[candidate]]
        return paired_t(both[candidate].to_numpy(), both[against].to_numpy())

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Within responses, the rank correlation of sign(A) times credit with what a loss weights by.

        Positive means that weight is on the tokens that earned their advantage, for either sign of it. A row per
        quantity and sign of the advantage: mean over the units, interval.
        """
        rows = []
        for column, label in (COLUMNS | self._weights).items():
            if not varies(self.microscope.segments, column):
                continue
            by_response = rank_correlations(self.microscope.segments, column)
            for sign, words in SIGNS.items():
                of_sign = by_response[by_response["sign"] == sign]
                shown = t_interval(of_sign.groupby(self.unit)["correlation"].mean().to_numpy())
                rows.append(
                    {"quantity": column, "label": label, "sign": sign, "of": words, "responses": len(of_sign)}
                    | {"correlation": shown.mean, "low": shown.low, "high": shown.high, "units": shown.n}
                )
        return pd.DataFrame(rows, columns=AGREEMENT)

    @property
    def _weights(self) -> dict[str, str]:
        """The columns of weights, with their labels."""
        weighed = ("loss", "placebo", "variant")
        candidates = self.microscope.candidates.items()
        return {f"weight/{name}": one.label for name, one in candidates if one.kind in weighed}

    @cached_property
    def reliability(self) -> float:
        """Of the credit within responses, about: the rank correlation of its halves, stepped up (Spearman-Brown)."""
        halves = rank_correlations(self.microscope.segments, "credit_second", "credit_first")
        half = float((halves["correlation"] * halves["sign"]).groupby(halves[self.unit]).mean().mean())
        return 2 * half / (1 + half)

    @cached_property
    def places(self) -> pd.DataFrame:
        """By part of a response and sign: root mean square of the credit, and the mean distance of a weight from 1.

        The mean square is estimated by the product of the credit's halves, which is unbiased, over tokens, then units.
        """
        rows = self.microscope.segments
        middle = (rows["start"] + rows["tokens"] / 2) / rows["response_tokens"]
        place = np.minimum((middle * PLACES).astype(int), PLACES - 1)
        weight = f"weight/{next((n for n in ('fipo_wide', 'fipo') if f'weight/{n}' in rows), REFERENCE)}"
        tokens = rows["tokens"]
        table = rows[[self.unit]].assign(
            place=(place + 0.5) / PLACES,
            sign=np.sign(rows["advantage"]).astype(int),
            square=rows["credit_first"] * rows["credit_second"] * tokens,
            distance=(rows[weight] - 1).abs() * tokens,
            tokens=tokens,
        )
        sums = table[table["sign"] != 0].groupby([self.unit, "sign", "place"]).sum()
        means = sums[["square", "distance"]].div(sums["tokens"], axis=0).groupby(["sign", "place"]).mean().reset_index()
        return means.assign(credit=np.sqrt(means["square"].clip(lower=0))).drop(columns="square")

    @property
    def sentences(self) -> list[str]:
        """What was found, each with its interval."""
        agreement = self.agreement[self.agreement["quantity"].isin(COLUMNS)]
        return [
            f"DAPO's gradient on a minibatch has a cosine of {float(self.cosines[REFERENCE].mean()):.3f} to the true "
            f"gradient of accuracy; its estimate allows at most {self.ceiling:.2f} "
            f"({counted(len(self.cosines), self.unit)}).",
            *(
                f"{row['text'][0].upper()}{row['text'][1:]}: {signed(row['effect'])} "
                f"{bracket(row['low'], row['high'])} in cosine."
                for row in self.contrasts
            ),
            *(
                f"Within {row['of']}, {row['label']} has a rank correlation of {signed(row['correlation'], 2)} "
                f"{bracket(row['low'], row['high'], 2)} with the token's credit."
                for row in agreement.to_dict("records")
            ),
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "units": list(map(str, self.cosines.index)),
            "unit": self.unit,
            "plan": self.microscope.plan,
            "ceiling": self.ceiling,
            "reliability": self.reliability,
            "directions": self.directions.to_dict("records"),
            "contrasts": self.contrasts,
            "agreement": self.agreement.to_dict("records"),
        }


def rank_correlations(segments: pd.DataFrame, column: str, of: str | None = None) -> pd.DataFrame:
    """Spearman's correlation of a column with sign(A) times the credit in each response: run, step, update, sign, it.

    of: instead of the mean of both halves of the credit. Responses with few segments, or without any difference in one
    of the two, are left out.
    """
    credit = segments[of] if of else (segments["credit_first"] + segments["credit_second"]) / 2
    sign = np.sign(segments["advantage"]).astype(int)
    keys = segments[RESPONSE].assign(sign=sign)
    pair = keys.assign(a=credit * sign, b=segments[column])
    groups = pair.groupby([*RESPONSE, "sign"], sort=False)
    ranks = groups[["a", "b"]].rank()
    ranks -= ranks.groupby([keys[name] for name in (*RESPONSE, "sign")], sort=False).transform("mean")
    products = keys.assign(ab=ranks["a"] * ranks["b"], aa=ranks["a"] ** 2, bb=ranks["b"] ** 2, count=1)
    sums = products.groupby([*RESPONSE, "sign"], sort=False, as_index=False).sum()
    known = sums[(sums["count"] >= FEWEST_SEGMENTS) & (sums["aa"] > 0) & (sums["bb"] > 0) & (sums["sign"] != 0)]
    return known[[*UPDATE, "sign"]].assign(correlation=known["ab"] / np.sqrt(known["aa"] * known["bb"]))


def varies(segments: pd.DataFrame, column: str) -> bool:
    """Whether the column differs within any response."""
    return column in segments and bool((segments.groupby(RESPONSE, sort=False)[column].nunique() > 1).any())


def credit_findings(microscope: Microscope | None) -> CreditFindings | None:
    """None without a microscope, or where DAPO's gradient never had a direction or the true one was never seen."""
    found = None if microscope is None else CreditFindings(microscope)
    return None if found is None or found.cosines[REFERENCE].isna().all() else found
