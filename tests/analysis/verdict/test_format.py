"""What of a gain in accuracy is format: answers that are right when read leniently."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.records.outcomes import outcomes
from analysis.records.study import read
from analysis.verdict.notes import notes
from tests.analysis import folders


@pytest.mark.parametrize("early", [True, False])
def test_a_gain_of_format_is_told(tmp_path: Path, early: bool) -> None:
    """Every answer before training is right leniently in FIPO's runs, or none but those that are right anyway."""
    folder = folders.write_study(tmp_path / "study", folders.smaller(folders.DEMO))
    for file in folder.glob("runs/*/evals/*.parquet"):
        evals = pd.read_parquet(file)
        is_read = early and "fipo" in file.parts[-3] and evals["step"].iloc[0] == 0
        evals.assign(correct_leniently=evals["correct"] | is_read).to_parquet(file)
    study = read([folder])
    scores = outcomes(study)
    fipo = scores[scores["arm"] == "fipo"]
    assert (fipo["lenient_final"] == fipo["final_accuracy"]).all()
    assert (fipo["lenient_start"] == (1.0 if early else fipo["start_accuracy"])).all()
    told = [note for note in notes(study, scores) if "is format" in note]
    gain = (fipo["final_accuracy"] - fipo["start_accuracy"]).mean()
    expected = f"FIPO {gain:+.3f}, of which {(fipo['final_accuracy'] - 1).mean():+.3f} remains"
    assert [expected in note for note in told] == [True] * early
