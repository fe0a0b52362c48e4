"""Where problems come from. The hub is a server on this machine that answers as the hub does."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.config.task import DataSettings
from harness.errors import UsageError
from harness.tasks.math.files import SHIPPED, data_file, rows_of
from harness.tasks.math.task import read_data
from tests.harness.tasks.math_material import write_jsonl

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = json.dumps({"problem": "What?", "answer": "5"}).encode() + b"\n"


class Hub(BaseHTTPRequestHandler):
    """owner/open has test.jsonl at COMMIT alone; owner/gated wants a login; there is nothing else."""

    def answer(self) -> None:
        """What the hub says."""
        _, _, owner, name, _, revision, *file = self.path.split("/")
        status, code = (401, "GatedRepo") if name == "gated" else (401, "RepoNotFound")
        if (owner, name) == ("owner", "open"):
            status, code = (200, "") if file == ["test.jsonl"] else (404, "EntryNotFound")
            status, code = (status, code) if revision in (COMMIT, "main") else (404, "RevisionNotFound")
        self.send_response(status)
        headers = {"X-Error-Code": code} if code else {"X-Repo-Commit": COMMIT, "ETag": '"abc"'}
        for header, value in {**headers, "Content-Length": "0" if code else str(len(CONTENT))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET" and not code:
            self.wfile.write(CONTENT)

    do_GET = do_HEAD = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The hub's address, an empty cache, and no login."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def empty_parquet() -> bytes:
    """A table with columns and no rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"problem": pa.array([], pa.string())}), sink)
    return bytes(sink.getvalue())


def refusal(given: str) -> str:
    """The line that refuses it."""
    with pytest.raises(UsageError) as refused:
        data_file(given, "eval_data")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.usefixtures("hub")
def test_a_file_of_the_hub_at_a_commit() -> None:
    file = data_file(f"owner/open:test.jsonl@{COMMIT}", "eval_data")
    assert (file.name, file.source, file.revision) == ("test", "owner/open:test.jsonl", COMMIT)
    assert list(rows_of(file, "eval_data")) == [{"problem": "What?", "answer": "5"}]
    newest = data_file("owner/open:test.jsonl", "eval_data")
    assert newest.revision == COMMIT  # what "main" was is recorded


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("owner/open:test.jsonl@fedcba", "RevisionNotFoundError"),
        ("owner/gated:test.jsonl", "GatedRepoError"),
        ("owner/open:other.jsonl", "RemoteEntryNotFoundError"),
        ("owner/missing:test.jsonl", "RepositoryNotFoundError"),
        (f"math500@{COMMIT}", "RepositoryNotFoundError"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(given: str, kind: str) -> None:
    said = refusal(given)
    assert f"{given.partition('@')[2] or 'main'} from the hub or its cache, got {kind}: check the names" in said
    assert "hf auth login" in said


@pytest.mark.usefixtures("hub")
def test_without_network_what_is_in_the_cache_is_read_and_else_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = f"owner/open:test.jsonl@{COMMIT}"
    first = data_file(given, "eval_data")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert data_file(given, "eval_data") == first
    assert "or give the path of a copy" in refusal("aime25")


def test_shipped_data_sets_are_pinned() -> None:
    assert set(SHIPPED) == {"dapo-math-17k", "aime24", "aime25", "math500", "gsm8k", "gsm8k-train"}
    for one in SHIPPED.values():
        assert set(one) == {"repo", "file", "revision"}
        assert re.fullmatch(r"[0-9a-f]{40}", one["revision"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data.jsonl", b"", "without rows"),
        ("data.jsonl", CONTENT + b'{"problem": "Wh', "damaged file at row 2"),
        ("data.jsonl", b"\xff\xfe\n", "damaged file at row 1"),
        ("data.parquet", b"PAR1 is how it began", "damaged file at row 1"),
        ("data.parquet", empty_parquet(), "without rows"),
        ("data.csv", b"problem,answer\n", "expected a .parquet, .jsonl or .json file"),
        ("data.jsonl.gz", b"\x1f\x8b", "expected a .parquet, .jsonl or .json file, got"),
        ("data.jsonl", CONTENT.strip() + b",\n" + CONTENT, "damaged file at row 1"),
        ("data.json", b"[]", "without rows"),
        ("data.json", b"[" * 100_000, "damaged file at row 1"),
    ],
)
def test_an_empty_or_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    file = data_file(str(tmp_path / name), "train_data")
    with pytest.raises(UsageError) as refused:
        list(rows_of(file, "train_data"))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "DATA.JSON"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf \r\n\r\n"])
def test_json_is_read_in_every_layout(tmp_path: Path, name: str, start: bytes) -> None:
    rows = [{"problem": f"{n}?", "answer": n} for n in range(3)]
    lines = [json.dumps(row) for row in rows]
    contents = {
        "one array": json.dumps(rows),
        "an indented array": json.dumps(rows, indent=2),
        "lines": "\n".join(lines),
        "lines of Windows, some empty": "\r\n \r\n".join([*lines, ""]),
    }
    for layout, content in contents.items():
        (tmp_path / name).write_bytes(start + content.encode())
        assert list(rows_of(data_file(str(tmp_path / name), "x"), "x")) == rows, layout


def test_bytes_that_are_no_text_are_refused_by_row_and_column(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(CONTENT + CONTENT.replace(b"What", b"Wh\xff"))
    with pytest.raises(UsageError, match=r"data.jsonl, row 2: expected text in problem, got '\\udcff' in it"):
        read_data(DataSettings(eval_data=str(tmp_path / "data.jsonl")), trains=False)


@pytest.mark.parametrize("given", ["aime23", "missing.parquet", "owner/name", ""])
def test_what_is_no_data_set_is_refused_with_the_names_that_are(given: str) -> None:
    assert "expected one of dapo-math-17k, aime24" in refusal(given)


def test_data_are_checked_before_anything_else(tmp_path: Path) -> None:
    both = write_jsonl(tmp_path / "both.jsonl", [{"problem": "A?", "answer": "1"}])
    faults = {
        "needs --train_data": DataSettings(eval_data=both),
        "needs --eval_data": DataSettings(train_data=both),
        "'both' twice": DataSettings(train_data=both, eval_data=f"{both},{both}"),
        "expected questions that are not in --eval_data": DataSettings(train_data=both, eval_data=both),
    }
    for words, settings in faults.items():
        with pytest.raises(UsageError, match=re.escape(words)):
            read_data(settings)
