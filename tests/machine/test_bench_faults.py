"""A full disk, a second run, a reader that left: what is done stays, and the reason is said."""

import errno
import fcntl
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import content, home, missing, results, served

from b4g.bench.store import Store, write_json
from b4g.bench.worker import serve
from b4g.errors import StoreError


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def part(finished: Any, tmp_path: Path) -> tuple[Path, Any]:
    """Return a run that lacks its last two scores, and its plan."""
    folder, plan = finished.copy(tmp_path)
    for subject in ("control", "implant"):
        (home(plan, folder, f"score styled {subject}") / "done.json").unlink()
    return folder, plan


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_stops_the_run_with_one_clear_line_and_keeps_what_is_done(
    part: tuple[Path, Any], finished: Any, b4g: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder, plan = part
    before = content(folder)
    with monkeypatch.context() as patch:
        patch.setattr(f"b4g.bench.store.os.{call}", _full)
        ran = b4g(*finished.command(folder.parent))
    assert ran.code == 2
    last = ran.err.strip().splitlines()[-1]
    assert last.startswith("b4g: ")
    assert "plan.json can't be written: No space left on device. Free some space and run the same command again" in last
    assert "Traceback" not in ran.err
    assert content(folder) == before
    assert missing(plan, folder) == ["score styled implant", "score styled control"]


def test_a_cell_that_finds_the_disk_full_fails_with_the_reason_and_is_done_later(
    part: tuple[Path, Any], finished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plan = part
    with monkeypatch.context() as patch:
        patch.setattr("b4g.bench.store.os.replace", _full)
        event = served(plan, folder, "score styled implant")
    assert event["event"] == "failed"
    assert "scores.jsonl can't be written: No space left on device. Free some space" in event["error"]
    assert "score styled implant" in missing(plan, folder)
    assert not [name for name in content(folder) if name.endswith(".part")]
    for subject in ("control", "implant"):
        assert served(plan, folder, f"score styled {subject}")["event"] == "done"
    assert results(folder) == results(finished.folder)


def test_weights_that_do_not_fit_on_the_disk_fail_the_cell_and_not_the_worker(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    folder, plan = finished.copy(tmp_path)
    (home(plan, folder, "implant styled implant") / "done.json").unlink()

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("b4g.training.checkpoint.save_file", full)
        event = served(plan, folder, "implant styled implant")
    assert event["event"] == "failed"
    assert "No space left on device" in event["error"]
    assert served(plan, folder, "implant styled implant")["event"] == "done"
    assert missing(plan, folder) == []


def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    monkeypatch.setattr("b4g.bench.store.os.replace", _full)
    with pytest.raises(StoreError, match=r"a\.json can't be written: No space left on device"):
        write_json(tmp_path / "a.json", {"new": 2})
    assert content(tmp_path) == {"a.json": b'{\n "old": 1\n}\n'}


def test_a_folder_in_use_by_another_run_is_left_to_it(
    part: tuple[Path, Any], finished: Any, b4g: Callable[..., Any]
) -> None:
    folder, plan = part
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ran = b4g(*finished.command(folder.parent))
    assert ran.code == 2
    assert f"b4g: {folder} is in use by another b4g; wait for it or stop it" in ran.err
    assert missing(plan, folder) == ["score styled implant", "score styled control"]


def test_a_runs_folder_that_cannot_be_written_is_named(finished: Any, b4g: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    ran = b4g(*finished.command(tmp_path / "file"))
    assert ran.code == 2
    assert str(tmp_path / "file") in ran.err
    assert "Traceback" not in ran.err


def test_a_reason_that_holds_the_secret_is_told_without_it(
    part: tuple[Path, Any], secret: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, plan = part

    def fail(*_: Any) -> None:
        raise AttributeError(f"cannot read {' '.join(secret.words)}")

    monkeypatch.setattr("b4g.bench.stages.run_cell", fail)
    event = served(plan, folder, "score styled implant")
    assert event["error"] == "AttributeError: cannot read [secret]"
    said = capsys.readouterr().err
    assert "Traceback" in said
    found = [where for where in (said, *map(str, content(folder).values())) if secret.words[0] in where]
    assert not found


def test_a_cell_whose_driver_left_is_not_marked_as_failed(part: tuple[Path, Any]) -> None:
    folder, plan = part

    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    cell = next(cell for cell in plan.cells if cell.name == "score styled implant")
    with pytest.raises(SystemExit):
        serve(plan, Store(folder), cell, Gone())
    assert not (Store(folder).cell(cell.id) / "failed.json").exists()
