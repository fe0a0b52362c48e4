"""A study of several blocks -> its page, its scores and verdicts, what plans compute with, and the figures."""

import json
from collections.abc import Sequence
from pathlib import Path

from analysis.figures.block_charts import block_charts
from analysis.records.blocks import BlockStudy
from analysis.records.provenance import source_of
from analysis.report.block_page import block_page
from analysis.report.files import Asked, write_charts, write_files
from analysis.verdict.abstract import abstract
from analysis.verdict.block_findings import BlockFindings, block_findings


def write_block_report(found: BlockStudy, output: Path, asked: Asked) -> list[str]:
    """Write the report and its files into `output`, and hand back the abstract."""
    answer = block_findings(found)
    source = source_of(found.study, asked.given)
    shown = write_charts(block_charts(answer), output, source)
    sentences = abstract(answer)
    left = f"Not complete: {len(found.scores)} of {found.planned} scores. Nothing of it may be quoted yet."
    texts = {
        "report.html": block_page(answer, sentences, shown, source),
        "scores.csv": found.scores.drop(columns="cell").to_csv(index=False, float_format="%.6g"),
        "verdict.json": _json({"complete": found.is_complete, "abstract": sentences, **answer.as_json()}),
    }
    if answer.variance:
        texts["variance.json"] = _json(answer.variance.as_json())
    write_files(texts, shown, output, (list(asked.folders), asked.options | {"name": found.study.name}))
    return sentences if found.is_complete else [left, *sentences]


def write_block_figures(found: BlockStudy, output: Path, asked: Asked, names: Sequence[str] = ()) -> list[str]:
    """Write the figures alone, all or those named, and hand back their names."""
    answer: BlockFindings = block_findings(found)
    return [
        item.name for item in write_charts(block_charts(answer, names), output, source_of(found.study, asked.given))
    ]


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"


def _plain(value: object) -> object:
    """What numpy has for a number."""
    return value.item() if hasattr(value, "item") else str(value)
