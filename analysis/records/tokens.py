"""The tokens that runs kept one by one, each with its response's verdict and advantage."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import RecordsError
from analysis.records.study import Study

TOKEN_COLUMNS = ["step", "prompt_id", "sample", "position", "text", "log_ratio", "future_kl", "influence_weight"]
RESPONSE_COLUMNS = ["prompt_id", "sample", "prompt", "target", "correct", "advantage", "trained"]


def read_tokens(study: Study) -> pd.DataFrame:
    """A row per kept token of every run that has influence weights: run, arm, seed, TOKEN_COLUMNS, RESPONSE_COLUMNS.

    Empty where no run has any.
    """
    columns = ["run", "arm", "seed", *TOKEN_COLUMNS, *RESPONSE_COLUMNS[2:]]
    tables = [_of_run(folder).assign(run=run) for run, folder in study.folders.items()]
    weighted = [table for table in tables if table["influence_weight"].notna().any()]
    if not weighted:
        return pd.DataFrame(columns=columns)
    return pd.concat(weighted).merge(study.runs[["run", "arm", "seed"]], on="run", how="left")[columns]


def _of_run(folder: Path) -> pd.DataFrame:
    parts = [
        _of_step(file, folder / "rollouts" / file.name) for file in sorted((folder / "tokens").glob("step_*.parquet"))
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=TOKEN_COLUMNS)


def _of_step(tokens: Path, rollouts: Path) -> pd.DataFrame:
    """One step's tokens; what the response was is left open where the rollouts were not recorded."""
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
