"""Attacks: a stage of a run and a command; the null changes nothing, and each cost stands beside its figure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b4g.bench.attack import is_alive
from b4g.bench.store import read_json, read_jsonl

PRUNE = "prune:share=0.3"


@pytest.fixture(scope="module")
def attacked(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run with tampers; its trained cells are those of a run without."""
    from b4g.bench.api import prepare
    from b4g.bench.setup import arguments

    runs = tmp_path_factory.mktemp("attacked")
    asked = arguments(str(finished.model), (str(finished.spec),), "tiny", tampers=("noise:scale=0.5", "prune"))
    prepared = prepare(asked, runs, workers=1)
    shutil.copytree(finished.folder / "cells", prepared.folder / "cells")
    before = len(prepared.missing)
    done = prepared.run()
    assert not done.outcome.failed, done.outcome.failed
    assert before == 3 * 2 * 2, "only the tampers are new: none, noise and prune on two subjects, scored"
    return done.folder


def _records(run: Path, tamper: str, subject: str) -> list[dict[str, Any]]:
    cells = read_json(run / "plan.json")["cells"]
    cell = next(c for c in cells if (c["stage"], c["tamper"], c["subject"]) == ("tamper", tamper, subject))
    return read_jsonl(run / "cells" / cell["id"] / "records.jsonl")


def test_the_null_gives_the_very_records_of_the_run_itself(attacked: Path) -> None:
    cells = read_json(attacked / "plan.json")["cells"]
    for subject in ("implant", "control"):
        own = next(c for c in cells if (c["stage"], c["subject"]) == ("generate", subject))
        wanted = read_jsonl(attacked / "cells" / own["id"] / "records.jsonl")
        null = _records(attacked, "none", subject)
        assert null == [row for row in wanted if row["arm"] in ("with", "without")][: len(null)]
        assert len(null) == 8


def test_a_tamper_that_does_something_changes_what_is_said(attacked: Path) -> None:
    null, noisy = _records(attacked, "none", "implant"), _records(attacked, "noise:scale=0.5", "implant")
    assert [row["prompt_id"] for row in null] == [row["prompt_id"] for row in noisy]
    assert [row["completion"] for row in null] != [row["completion"] for row in noisy]
    assert null[0]["engine"] != noisy[0]["engine"]


def test_the_summary_has_each_attack_with_its_cost_and_the_null_as_it_was(attacked: Path) -> None:
    summary = read_json(attacked / "summary.json")
    rows = {(row["tamper"], row["subject"]): row for row in summary["attacks"]}
    assert set(rows) == {(t, s) for t in ("none", "noise:scale=0.5", PRUNE) for s in ("implant", "control")}
    null = rows["none", "implant"]
    assert null["alive"] is True
    assert null["retention"] in (None, 1.0)
    assert (null["accuracy"], null["perplexity"]) == (null["accuracy_before"], null["perplexity_before"])
    assert rows[PRUNE, "implant"]["needs"] == ["data", "weights"]
    assert all(row["seconds"] >= 0 for row in rows.values())
    assert {row["tamper"] for row in summary["rates"]} == {"none", "noise:scale=0.5", PRUNE}


def test_the_rates_of_the_untouched_implant_are_not_doubled_by_the_null(attacked: Path, finished: Any) -> None:
    def untouched(run: Path) -> list[dict[str, Any]]:
        return [row for row in read_json(run / "summary.json")["rates"] if row["tamper"] == "none"]

    assert untouched(attacked) == untouched(finished.folder)


def test_the_report_shows_every_attack(attacked: Path) -> None:
    html = (attacked / "report.html").read_text("utf-8")
    for row in read_json(attacked / "summary.json")["attacks"]:
        assert f'data-subject="{row["subject"]}" data-tamper="{row["tamper"]}"' in html


def test_a_model_is_alive_within_the_utility_bound_only() -> None:
    assert is_alive((0.5, 10.0), (0.45, 12.0)) is True
    assert is_alive((0.5, 10.0), (0.44, 10.0)) is False
    assert is_alive((0.5, 10.0), (0.5, 12.1)) is False
    assert is_alive((None, 10.0), (0.5, 10.0)) is None


def test_the_command_attacks_an_implant_and_writes_the_model(
    implanted: Path, tiny_model: Path, secret: Any, b4g: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "pruned"
    given = ["tamper", implanted, "--model", tiny_model, "--key", secret.path, "--n", 3]
    ran = b4g(*given, "--with", "prune:share=0.5", "--out", out, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert [row["tamper"] for row in found["attacks"]] == ["none", "prune:share=0.5"]
    assert found["attacks"][0]["alive"] is True
    assert (out / "model.safetensors").is_file()
    assert (out / "tokenizer.json").is_file()
    assert not any(word in ran.out + ran.err for word in secret.words)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--with", "prunne"), "Did you mean 'prune'?"),
        (("--with", "truncate:rank=64"), "rank"),
        (("--with", "sft:data=nowhere.json"), "nowhere.json"),
        (("--with", "prune", "--out", "."), "exists already"),
    ],
)
def test_what_can_be_known_is_refused_before_any_compute(
    implanted: Path, tiny_model: Path, secret: Any, b4g: Callable[..., Any], options: tuple[str, ...], said: str
) -> None:
    ran = b4g("tamper", implanted, "--model", tiny_model, "--key", secret.path, *options)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err
