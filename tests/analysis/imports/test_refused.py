"""What an import refuses: one line that says what to do, and nothing is written."""

from pathlib import Path
from typing import Any

import pytest

from tests.analysis.imports.test_import import Printed, contents, refused

ONE = "--arm a --seed 0 --columns accuracy=acc"
MANY = ",".join(f"metric_{n}" for n in range(40))
TWO_FILTERS = '{"results": {"sums": {"alias": "sums", "exact_match,strict": 0.25, "exact_match,loose": 0.5}}}'
TWO_SETS = '{"step": 1, "eval_m_runtime": 1, "eval_reward": 0}, {"step": 1, "eval_c_runtime": 1, "eval_reward": 1}'
ALIASES = "a: &a x\nb:\n" + "- *a\n" * 17
ROW = "step,acc\n1,0.5\n"


def fault(name: str, text: str, flags: str, words: str) -> Any:
    """A file, how it is imported, and what the error says."""
    return pytest.param(name, text, flags, words, id=words)


@pytest.mark.parametrize(
    ("name", "text", "flags", "words"),
    [
        fault("a.csv", "step,acc\n1,inf\n2,NaN\n", ONE, "expected a finite number as acc"),
        fault("a.csv", "step,acc\n1,half\n", ONE, "got 'half'"),
        fault("a.csv", "step,accu\n1,0.5\n", ONE, "got step, accu: name one of these"),
        fault("a.csv", f"val/acc,{MANY}\n0.5{',0' * 40}\n", ONE, "got 41 names, such as val/acc: name one of these"),
        fault("a.csv", "step,val\n1,0.5\n", "--arm a", "expected an accuracy"),
        fault("a.csv", "step,acc\n", ONE, "expected logged rows"),
        fault("a.csv", "step,acc\n1,0.5,3\n", ONE, "expected 2 cells in line 2"),
        fault("a.csv", "step,acc\n1,0.5\n1,0.6\n", ONE, "name the columns of arm and seed"),
        fault("a.csv", "step,acc\n1.5,0.5\n", ONE, "expected a whole step"),
        fault("a.csv", "step,acc\n1e40,0.5\n", ONE, "got '1e40': name the step's column"),
        fault("a.csv", "question,acc\nq,0.5\n", ONE, "expected 0 or 1 for an answer"),
        fault("a.csv", ROW, "--columns acuracy=acc", "expected --columns NAME=COLUMN"),
        fault("a.csv", ROW, ONE + " --percent", "--percent: expected accuracies above 1"),
        fault("a.csv", "step,acc\n1,52.5\n", ONE, "got up to 52.5 as acc: in percent? then --percent"),
        fault("a.csv", ROW, ONE + " --filter x", "expected no --filter, as there is none"),
        fault("a.csv", ROW, ONE + " --config nope.yaml", "got nope.yaml (No such file or directory)"),
        fault("a.csv", ROW, ONE + " --columns nope.toml", "got nope.toml (No such file or directory)"),
        fault("a.csv", ROW, ONE + " --answers nope", "got 'nope', where there is none"),
        fault("a.csv", ROW, ONE + " --claims nope", "got nope (No such file or directory)"),
        fault("a.csv", ROW, "--columns accuracy=acc", "expected an arm for a, got none"),
        fault("a.csv", "\0\0step", ONE, "expected text in UTF-8 or UTF-16"),
        fault("logging.jsonl", '{"reward": 1}\n{"rew\n{"reward": 2}\n', "--arm a", "line 2 of"),
        fault("trainer_state.json", "{", "--arm a", "expected JSON in"),
        fault("trainer_state.json", '{"log_history": [{"rewards/a/mean": 1, "rewards/b/mean": 0}]}', ONE, "choose by"),
        fault("trainer_state.json", f'{{"log_history": [{TWO_SETS}]}}', "--arm a", "got eval_m_reward, eval_c_reward"),
        fault("run.log", "nothing of the kind\n", ONE, "name its --format"),
        fault("results_1.json", '{"results": {"sums": 1}}', "--arm a", "expected results of lm-eval"),
        fault("results_1.json", TWO_FILTERS, "--arm a", "['strict', 'loose'] in"),
        fault("results_1.json", TWO_FILTERS, "--arm a --filter none", "got --filter none"),
        fault("a.csv", ROW, ONE + " --seed -1", "argument --seed: expected a whole number of 0 or more, got '-1'"),
        fault("a.csv", ROW, ONE + " --seed 1.5", "argument --seed: expected a whole number of 0 or more, got '1.5'"),
        fault("a.csv", ROW, ONE + " --study a.csv", "expected a study of imported runs or a new folder, got a.csv"),
        fault("a.csv", ROW, ONE + " --study a.csv/s", "--study: expected a folder to write to, got a.csv/s (Not a"),
        fault("a.csv", ALIASES, "--config a.csv", "expected at most 16 aliases in a.csv"),
        fault("a.csv", ROW, ONE + " --config ..", "got .. (Is a directory): name one that can be read"),
        fault("a.csv", ROW, ONE + " --answers .", "got . (Is a directory): name one that can be read"),
    ],
)
def test_a_fault_is_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed, name: str, text: str, flags: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    before = contents(tmp_path)
    assert words in refused(capsys, name, "--study", "s", *flags.split())
    assert contents(tmp_path) == before
    assert not Path("s").exists()
