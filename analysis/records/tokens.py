"""The tokens that a run kept one by one, each with its response's verdict and advantage."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import RecordsError
from analysis.records.study import Study

TOKEN_COLUMNS = ["step", "prompt_id", "sample", "position", "text", "log_ratio", "future_kl", "influence_weight"]
RESPONSE_COLUMNS = ["prompt_id", "sample", "prompt", "target", "correct", "advantage", "trained"]


def read_tokens(study: Study) -> pd.DataFrame:
    """A row per token that one run kept: run, TOKEN_COLUMNS, RESPONSE_COLUMNS; empty where no run has any.

    The run: of the first arm with influence weights, the one of the lowest seed.
    """
    order = study.runs[study.runs["run"].isin(study.folders)].sort_values("seed", kind="stable")
    arms = [study.runs.loc[study.runs["run"] == run, "arm"].iloc[0] for run in study.folders]
    for run in (run for arm in dict.fromkeys(arms) for run in order.loc[order["arm"] == arm, "run"]):
        steps = [_of_step(file) for file in sorted((study.folders[run] / "tokens").glob("step_*.parquet"))]
        table = pd.concat(steps, ignore_index=True) if steps else pd.DataFrame(columns=TOKEN_COLUMNS)
        if table["influence_weight"].notna().any():
            return table.assign(run=run)
    return pd.DataFrame(columns=["run", *TOKEN_COLUMNS, *RESPONSE_COLUMNS[2:]])


def _of_step(tokens: Path) -> pd.DataFrame:
    """One step's tokens; what the response was is left open where the rollouts were not recorded."""
    rollouts = tokens.parent.parent / "rollouts" / tokens.name
    try:
        table: pd.DataFrame = pq.ParquetFile(tokens).read(columns=TOKEN_COLUMNS).to_pandas()
        if not rollouts.exists():
            return table.assign(**dict.fromkeys(RESPONSE_COLUMNS[2:], None))
        responses: pd.DataFrame = pq.ParquetFile(rollouts).read(columns=RESPONSE_COLUMNS).to_pandas()
    except (pa.ArrowException, OSError, KeyError) as error:
        words = str(error).splitlines()[0]
        raise RecordsError(f"expected the tokens of a step in {tokens} and its responses, got: {words}") from None
    responses = responses.sort_values("trained", ascending=False).drop_duplicates(["prompt_id", "sample"])
    return table.merge(responses, on=["prompt_id", "sample"], how="left")
