"""What many answers to each problem of a benchmark come to: avg@k, cons@k and pass@k, by evaluation and problem."""

from collections import Counter
from collections.abc import Collection
from math import comb

import pandas as pd

from analysis.records.study import Study

KEYS = ["run", "step", "prompt_id"]


def answers_to(study: Study, suites: Collection[str]) -> pd.DataFrame:
    """The answers to the problems of these benchmarks, all being named as the runs' records name them."""
    named = [prompts for of_run in study.suites.values() for suite, prompts in of_run.items() if suite in suites]
    return study.evals[study.evals["prompt_id"].isin({prompt for prompts in named for prompt in prompts})]


def problem_scores(answers: pd.DataFrame, metric: str, k: int) -> pd.DataFrame:
    """A row per run, step and prompt_id with its `score`: `avg`, `cons` or `pass` of k answers.

    answers: those of one benchmark; KEYS, sample, correct, and for `cons` answer, missing where a response gave none.
    avg is over all answers, whatever k: its expectation does not depend on their number. pass is without bias from
    all of them. cons is of the first k.
    """
    if metric == "cons":
        answers = answers.sort_values([*KEYS, "sample"]).groupby(KEYS, sort=True, observed=True).head(k)
    groups = answers.groupby(KEYS, sort=True, observed=True)
    if metric == "avg":
        scores = groups["correct"].mean()
    elif metric == "pass":
        scores = groups["correct"].agg(lambda right: pass_at_k(len(right), int(right.sum()), k))
    else:
        votes = groups[["answer", "correct"]]
        scores = votes.apply(lambda one: majority(one["answer"].tolist(), one["correct"].tolist()))
    return scores.rename("score").reset_index()


def majority(answers: list[str | None], correct: list[bool]) -> float:
    """1 where the most frequent answer is right, else 0; of several as frequent the share that is right.

    Answers are one where they are written alike. Responses without an answer have no vote.
    """
    votes = Counter(answer for answer in answers if isinstance(answer, str))
    if not votes:
        return 0.0
    right = {answer for answer, is_right in zip(answers, correct, strict=True) if is_right}
    most = max(votes.values())
    leading = [answer for answer, count in votes.items() if count == most]
    return sum(answer in right for answer in leading) / len(leading)


def fewest_answers(answers: pd.DataFrame) -> pd.Series:
    """By run and step, how many answers the problem with the fewest has."""
    return answers.groupby(KEYS, observed=True).size().groupby(["run", "step"]).min()


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k): of n answers c are right (Chen et al. 2021, arXiv 2107.03374). Needs n >= k."""
    return 1.0 - comb(n - c, k) / comb(n, k)
