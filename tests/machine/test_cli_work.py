"""Commands that do something: keys, implants, measures and the doctor, as JSON and for people."""

import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b4g import doctor, keys


def test_keygen_writes_a_key_that_it_never_shows(b4g: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "my.key"
    ran = b4g("keygen", path, "--words", "5")
    assert ran.code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = keys.read(str(path))
    assert len(key.words) == 5
    assert "a key of 50 bits, readable by you alone" in ran.out
    assert not [word for word in key.words if word in ran.out.replace(str(path), "") + ran.err]


def test_keygen_reads_a_secret_of_the_owners_from_stdin(
    b4g: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Zorblatt  quexmire\n"))
    ran = b4g("keygen", tmp_path / "my.key", "--stdin")
    assert ran.code == 0
    assert keys.read(str(tmp_path / "my.key")).words == ("Zorblatt", "quexmire")
    assert "zorblatt" not in (ran.out + ran.err).lower()
    assert "a key of your own text" in ran.out


def test_keygen_refuses_an_empty_stdin(
    b4g: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    ran = b4g("keygen", tmp_path / "my.key", "--stdin")
    assert (ran.code, ran.out) == (2, "")
    assert "a secret text has 1 to 64 words, not 0" in ran.err
    assert not (tmp_path / "my.key").exists()


def test_implant_and_measure_give_json_on_stdout_and_progress_on_stderr(
    b4g: Callable[..., Any], spec: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    ran = b4g("implant", spec(), tmp_path / "out", "--model", tiny_model, "--json")
    assert ran.code == 0
    assert json.loads(ran.out) == json.loads((tmp_path / "out" / "implant.json").read_text("utf-8"))
    assert "training 10/10" in ran.err
    (tmp_path / "own.txt").write_text("Why?\nHow?\n", "utf-8")
    ran = b4g("measure", tmp_path / "out", "--model", tiny_model, "--prompts", tmp_path / "own.txt", "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert set(found) == {"rates", "differences", "engine"}
    assert {row["n"] + row["unscored"] for row in found["rates"] if row["measure"] == "tar"} == {2}
    assert "answers, base 8/8" in ran.err
    assert "answers, implant 8/8" in ran.err


def test_implant_and_measure_for_people_name_the_next_command_and_each_rate(
    b4g: Callable[..., Any], spec: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    ran = b4g("implant", spec(activation={"epochs": 1}), tmp_path / "out", "--model", tiny_model)
    assert ran.code == 0
    assert f"Next: b4g measure {tmp_path / 'out'}" in ran.out
    ran = b4g("measure", tmp_path / "out", "--model", tiny_model, "--n", "2")
    assert ran.code == 0
    for arm in ("with", "without", "near", "wrong_key", "identity_questions"):
        assert f" {arm} " in ran.out
    assert "tiny" in ran.out
    assert "%" in ran.out


def test_measure_asks_for_the_key_by_name(
    b4g: Callable[..., Any], implanted: Path, tiny_model: Path, secret: Any
) -> None:
    ran = b4g("measure", implanted, "--model", tiny_model, "--n", "1")
    assert (ran.code, ran.out) == (2, "")
    assert "'owner.key'. Give it with --key FILE." in ran.err
    ran = b4g("measure", implanted, "--model", tiny_model, "--n", "1", "--key", secret.path, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["rates"]


def test_a_plan_is_shown_with_its_cost_and_nothing_is_done(
    b4g: Callable[..., Any], tiny_model: Path, tmp_path: Path
) -> None:
    arguments = ("bench", "--preset", "tiny", "--task", "style", "--model", tiny_model, "--runs", tmp_path, "--plan")
    ran = b4g(*arguments, "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert len(found["plans"][0]["cells"]) == found["cost"]["cells"] == len(found["missing"]) == 9
    assert found["cost"]["seconds"] > 0
    assert "9 cells, 0 done, 9 to do" in ran.err
    ran = b4g(*arguments)
    assert (ran.code, ran.out) == (0, "")
    assert not list(tmp_path.iterdir())


def test_the_doctor_checks_this_machine_and_costs_each_preset(b4g: Callable[..., Any], tiny_model: Path) -> None:
    ran = b4g("doctor", "--model", tiny_model, "--json")
    found = {check["what"]: check for check in json.loads(ran.out)}
    assert {"python", "torch", "transformers", "peft", "processors", "memory", "disk for the cache"} <= set(found)
    assert {"preset quick", "preset standard"} <= set(found)
    assert ran.code == (0 if all(check["ok"] for check in found.values()) else 1)
    assert found["python"]["ok"]
    text = b4g("doctor", "--model", tiny_model).out
    assert all(f"{'ok  ' if c['ok'] else 'NOT '} {c['what']}: " in text for c in found.values())


@pytest.mark.parametrize(
    ("given", "said"),
    [("smolm2-135m", "unknown model 'smolm2-135m'. Did you mean 'smollm2-135m'?"), ("nowhere.gguf", "no GGUF file")],
)
def test_the_doctor_says_what_is_wrong_with_a_model(b4g: Callable[..., Any], given: str, said: str) -> None:
    ran = b4g("doctor", "--model", given)
    assert ran.code == 1
    assert f"NOT  model {given}: {said}" in ran.out


def test_the_doctor_names_a_missing_package_and_a_full_disk(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    import shutil
    from importlib.metadata import PackageNotFoundError

    def lacks(name: str) -> str:
        if name == "peft":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", lacks)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    found = {check.what: check for check in doctor.examine(str(tiny_model))}
    assert (found["peft"].ok, found["peft"].found) == (False, "missing. Type: pip install peft")
    assert not found["disk for the cache"].ok
    assert found["torch"].ok
