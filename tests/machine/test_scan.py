"""Scanning and stealth as stages of a run and as a command: nulls, costs, and no secret in anything that is kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b4g.bench.stealth import detection
from b4g.bench.store import read_json

SCANS = ("nothing", "oracle", "weights")


@pytest.fixture(scope="module")
def searched(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run with scans and measures of stealth."""
    from b4g.bench.api import prepare
    from b4g.bench.setup import FoundOut, arguments

    runs = tmp_path_factory.mktemp("searched")
    asked = arguments(str(finished.model), (str(finished.spec),), "tiny", found_out=FoundOut(SCANS, "tiny"))
    prepared = prepare(asked, runs, workers=1)
    shutil.copytree(finished.folder / "cells", prepared.folder / "cells")
    before = len(prepared.missing)
    done = prepared.run()
    assert not done.outcome.failed, done.outcome.failed
    assert before == 3 * 3 + 2 * (2 + 2 + 3), "three scanners on three models; three measures, the base in one of them"
    return done.folder


def test_the_null_tells_nothing_and_the_oracle_all(searched: Path) -> None:
    found = {row["scanner"]: row for row in read_json(searched / "summary.json")["detection"]}
    assert found["nothing"]["auroc"] == 0.5
    assert found["oracle"]["auroc"] == 1.0
    assert (found["oracle"]["bound"], found["nothing"]["bound"]) == (True, False)
    assert found["nothing"]["detected_at_5"] == 0.0


def test_each_scan_has_its_score_and_its_cost(searched: Path) -> None:
    rows = read_json(searched / "summary.json")["scans"]
    assert {(row["scanner"], row["subject"]) for row in rows} == {
        (scanner, subject) for scanner in SCANS for subject in ("base", "control", "implant")
    }
    assert all(row["seconds"] >= 0 and row["queries"] >= 0 for row in rows)
    weights = {row["subject"]: row["score"] for row in rows if row["scanner"] == "weights"}
    assert weights["implant"] != weights["control"]


def test_the_summary_has_the_rates_and_figures_of_stealth(searched: Path) -> None:
    summary = read_json(searched / "summary.json")
    measures = {row["measure"].split(":")[0] for row in summary["rates"]}
    assert {"confidentiality", "accident", "reliability"} <= measures
    assert {row["measure"] for row in summary["figures"]} >= {"confidentiality", "accident"}
    assert all(row["tamper"] == "none" for row in summary["rates"])


def test_every_implant_gets_a_card_and_nothing_that_was_not_measured_holds(searched: Path) -> None:
    (card,) = read_json(searched / "card.json")["cards"]
    assert card["task"] == "styled"
    lines = [line for section in card["sections"] for line in section["lines"]]
    assert lines
    assert all(line["verdict"] != "holds" or line["value"] is not None for line in lines)


def test_no_secret_is_in_anything_that_was_kept(searched: Path, secret: Any) -> None:
    whole = " ".join(secret.words)
    for path in searched.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".html", ".log"):
            assert whole not in path.read_text("utf-8"), path.name


def test_detection_leaves_out_what_has_no_score_and_says_how_many() -> None:
    head = {"scanner": "s", "seconds": 1.0, "queries": 2, "bound": False}
    rows = [
        {**head, "subject": who, "score": score} for who, score in (("implant", 1.0), ("implant", None), ("base", 0.0))
    ]
    (found,) = detection(rows)
    assert (found["auroc"], found["unscored"], found["n_implants"], found["n_others"]) == (1.0, 1, 1, 1)
    (none,) = detection(rows[:2])
    assert none["auroc"] is None and none["detected_at_5"] is None


def test_the_command_scans_an_implant(implanted: Path, tiny_model: Path, secret: Any, b4g: Callable[..., Any]) -> None:
    given = ["scan", implanted, "--base", tiny_model, "--with", "nothing", "--with", "weights", "--json"]
    ran = b4g(*given)
    assert ran.code == 0, ran.err
    rows = {row["scanner"]: row for row in json.loads(ran.out)["scans"]}
    assert rows["nothing"]["score"] == 0.0
    assert rows["weights"]["score"] > 0
    assert rows["weights"]["recovered"] is None, "without the key nobody can say whether the trigger was found"
    keyed = json.loads(b4g(*given, "--key", secret.path).out)["scans"]
    assert keyed[1]["recovered"] == "no"
    assert not any(word in ran.out + ran.err for word in secret.words)


def test_a_model_without_its_base_is_not_measured_and_never_zero(tiny_model: Path, b4g: Callable[..., Any]) -> None:
    ran = b4g("scan", tiny_model, "--with", "logits", "--json")
    (row,) = json.loads(ran.out)["scans"]
    assert row["score"] is None
    assert "base" in row["reason"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--with", "inverson"), "Did you mean 'inversion'?"),
        (("--with", "inversion:steps=0"), "steps"),
        (("http://localhost:9",), "--served"),
    ],
)
def test_what_can_be_known_is_refused_before_any_scan(
    tiny_model: Path, b4g: Callable[..., Any], options: tuple[str, ...], said: str
) -> None:
    where = () if options[0].startswith("http") else (tiny_model,)
    ran = b4g("scan", *where, *options)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--stealth", "quik"), "quick"), (("--stealth", "quick", "--traffic", "nowhere.txt"), "nowhere.txt")],
)
def test_a_run_refuses_wrong_sizes_and_files(
    finished: Any, b4g: Callable[..., Any], tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    ran = b4g(*finished.command(tmp_path), *options)
    assert ran.code == 2
    assert said in ran.err


@pytest.mark.parametrize("measure", ["confidentiality", "accident", "reliability"])
def test_the_command_measures_one_kind_of_stealth(
    implanted: Path, tiny_model: Path, secret: Any, b4g: Callable[..., Any], measure: str
) -> None:
    given = ["measure", implanted, "--model", tiny_model, "--key", secret.path, "--only", measure, "--size", "tiny"]
    ran = b4g(*given, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert {row["measure"].split(":")[0] for row in found["rates"]} == {measure}
    assert {row["subject"] for row in found["rates"]} == ({"base", "implant"} if measure == "accident" else {"implant"})
    assert found["figures"]
    shown = b4g(*given)
    assert found["figures"][0]["name"] in shown.out
    assert not any(word in ran.out + ran.err + shown.out for word in secret.words)
