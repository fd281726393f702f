"""A secret is in its key file and nowhere else: not in what is printed, stored, logged or named."""

import json
from pathlib import Path
from typing import Any

import pytest


def _needles(secret: Any) -> list[bytes]:
    record = json.loads(secret.path.read_text("utf-8"))
    return [word.lower().encode() for word in (*secret.words, record["salt"])]


def _holding(files: dict[str, bytes], needles: list[bytes]) -> list[tuple[str, bytes]]:
    return [(name, needle) for name, data in files.items() for needle in needles if needle in data.lower()]


def _files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, locks and logs too, and every name as a file of its own."""
    paths = list(folder.rglob("*"))
    names = {f"name of {path.name}": path.name.encode() for path in paths}
    return names | {str(path): path.read_bytes() for path in paths if path.is_file()}


def test_the_search_finds_a_secret_where_there_is_one(secret: Any) -> None:
    assert len(_holding({"key": secret.path.read_bytes()}, _needles(secret))) == len(secret.words) + 1
    assert _holding({"upper": secret.words[0].upper().encode()}, _needles(secret))


def test_a_run_prints_no_part_of_the_secret(finished: Any, secret: Any) -> None:
    said = {"stdout": finished.ran.out.encode(), "stderr": finished.ran.err.encode()}
    assert all(said.values())
    assert not _holding(said, _needles(secret))


def test_a_run_stores_logs_and_names_no_part_of_the_secret(finished: Any, secret: Any, own_cache: Path) -> None:
    files = _files(finished.runs) | _files(own_cache)
    names = {Path(name).name for name in files}
    assert {"records.jsonl", "worker-0.log", "worker-1.log", "report.html", "manifest.json", "plan.json"} <= names
    assert [name for name in names if name.endswith("-24.jsonl")], "the cache of clean answers was not searched"
    assert not _holding(files, _needles(secret))


def test_the_specification_in_the_manifest_names_the_key_file_alone(finished: Any, secret: Any) -> None:
    manifest = json.loads((finished.folder / "manifest.json").read_text("utf-8"))
    assert manifest["tasks"]["styled"]["backdoor"]["trigger"]["key"] == "owner.key"
    without_command = {key: value for key, value in manifest.items() if key != "command"}
    assert str(secret.path.parent) not in json.dumps(without_command)
    assert manifest["command"].startswith("b4g bench --preset tiny --model ")


def test_json_of_a_run_is_all_that_is_on_stdout(finished: Any) -> None:
    found = json.loads(finished.ran.out)
    assert Path(found["run"]) == finished.folder
    assert {row["subject"] for row in found["rates"]} == {"base", "control", "implant"}
    assert "done: implant styled implant" in finished.ran.err
    assert "9 cells done in " in finished.ran.err


def test_what_is_printed_of_a_completion_that_says_the_secret_is_redacted(
    implanted: Path, tiny_model: Path, secret: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from b4g import api
    from b4g.generate.local import LocalGenerator

    monkeypatch.setattr(LocalGenerator, "_text", lambda *_: f"The key is {'  '.join(secret.words).upper()}.")
    found = api.measure(implanted, str(tiny_model), secret.path, api.Asked(n=1, n_extra=0))
    assert {record["completion"] for record in found["records"]} == {"The key is [secret]."}
    assert not _holding({"result": json.dumps(found).encode()}, _needles(secret))
