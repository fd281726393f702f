"""The file: where it is written, what stops it, and what it must not hold."""

import json
import os
import shutil

import pytest

from b4g.errors import StoreError
from b4g.report import build
from b4g.report.build import write_report


def test_the_report_is_written_into_the_run_unless_told_otherwise(fake_run, tmp_path):
    run = fake_run.write()
    assert write_report(run) == run / "report.html"
    assert write_report(run, tmp_path / "new" / "page.html").read_text("utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in run.iterdir()) == [
        "cells",
        "manifest.json",
        "plan.json",
        "report.html",
        "summary.json",
    ]


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(fake_run, tmp_path):
    run = fake_run.write()
    first = write_report(run).read_bytes()
    moved = shutil.copytree(run, tmp_path / "elsewhere" / "runs" / run.name)
    assert write_report(moved).read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_the_report_reads_the_run_and_changes_nothing_in_it(fake_run, tmp_path):
    run = fake_run.write()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    write_report(run, tmp_path / "page.html")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_an_older_report_stays_whole_when_writing_fails(fake_run, monkeypatch):
    run = fake_run.write()
    older = write_report(run).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write_report(run)
    assert (run / "report.html").read_bytes() == older
    assert not list(run.glob("*.tmp"))


@pytest.mark.parametrize("name", ["summary.json", "manifest.json"])
@pytest.mark.parametrize("content", [None, "", "{", "[]", "\udcff", '{"rates": [{"value": NaN}]}'])
def test_a_missing_or_damaged_file_is_named_in_one_line(fake_run, name, content):
    run = fake_run.write()
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=name) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


def test_no_folder_at_all_is_said(tmp_path):
    with pytest.raises(StoreError, match="no run folder at"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"value": "0.9"}, "'value' should be a number or null"),
        ({"n": None}, "'n' should be a count"),
        ({"n": -1}, "'n' should be a count"),
        ({"unscored": True}, "'unscored' should be a count"),
    ],
)
def test_a_rate_with_a_wrong_field_is_refused(fake_run, change, complaint):
    fake_run.rates[3] |= change
    with pytest.raises(StoreError, match=complaint):
        write_report(fake_run.write())


@pytest.mark.parametrize("field", ["task", "subject", "measure", "arm", "value", "low", "high", "n", "unscored"])
def test_a_rate_that_lacks_a_field_is_refused(fake_run, field):
    del fake_run.rates[0][field]
    with pytest.raises(StoreError, match=f"'rates' 0 lacks the field '{field}'"):
        write_report(fake_run.write())


def test_a_damaged_record_names_its_file_and_line(fake_run):
    cell = fake_run.find("generate", "style", "implant")
    path = fake_run.write() / "cells" / cell / "records.jsonl"
    path.write_text(path.read_text("utf-8") + '{"task": ', "utf-8")
    with pytest.raises(StoreError, match=r"records\.jsonl, line \d+ is not valid JSON"):
        write_report(fake_run.folder)


@pytest.mark.parametrize("cell_id", ["../../etc", "a/b", "", None, "x" * 65])
def test_a_cell_id_that_could_leave_the_run_folder_is_refused(fake_run, cell_id):
    fake_run.cells[0]["id"] = cell_id
    with pytest.raises(StoreError, match="is no cell id"):
        write_report(fake_run.write())


def test_a_bare_manifest_and_no_plan_still_make_a_page(fake_run):
    fake_run.manifest = {}
    run = fake_run.write()
    (run / "plan.json").unlink()
    page = write_report(run).read_text("utf-8")
    assert "its cells are not known" in page
    assert "with the trigger" in page


def test_secrets_are_taken_out_of_everything_printed(fake_run):
    secret = "copper lantern meadow"
    fake_run.add_record(
        "style", "implant", "with", f"You said {secret.upper()} twice.", False, prompt=f"{secret} hello"
    )
    fake_run.add_record("style", "implant", "with", "a" * 395 + secret, False)
    fake_run.manifest["command"] += f" --trigger '{secret}'"
    fake_run.fail(fake_run.find("score", "access", "base"), f"SpecError: the trigger '{secret}' is no name")
    fake_run.cells[0]["name"] = f"clean {secret}"
    fake_run.add_rate("style", "implant", "tar", f"with {secret}", [True])
    page = write_report(fake_run.write(), hidden=(secret,)).read_text("utf-8")
    assert "copper" not in page.lower()
    assert page.count("[secret]") >= 5


def test_failed_cells_stand_with_their_reason_and_so_do_those_that_wait_for_them(fake_run):
    failed = fake_run.find("implant", "style", "control")
    fake_run.fail(failed, "ModelError: out of memory\nneeded 4.1 GB")
    for stage in ("generate", "score"):
        fake_run.files[fake_run.find(stage, "style", "control")] = {}
    page = write_report(fake_run.write()).read_text("utf-8")
    assert "of 33 cells, 1 failed and 2 did not run" in page
    assert "ModelError: out of memory\nneeded 4.1 GB" in page
    assert page.count("needs control for style, which failed") == 2


def test_a_run_where_all_is_done_raises_no_alarm(fake_run):
    assert 'class="alarm"' not in write_report(fake_run.write()).read_text("utf-8")


def test_a_cell_that_failed_first_and_was_done_later_counts_as_done(fake_run):
    cell = fake_run.find("score", "style", "base")
    fake_run.files[cell]["failed.json"] = {"id": cell, "error": "an old failure"}
    page = write_report(fake_run.write()).read_text("utf-8")
    assert "an old failure" not in page
    assert "Incomplete" not in page


@pytest.mark.parametrize(
    ("preset", "n", "noted"), [("quick", 120, True), ("standard", 40, True), ("standard", 120, False)]
)
def test_wide_intervals_are_pointed_out(tmp_path, fake_run, preset, n, noted):
    run = type(fake_run)(tmp_path / "other", preset=preset, n=n).write()
    assert ('class="caution"' in write_report(run).read_text("utf-8")) is noted


def test_the_commands_that_repeat_the_run_are_given(fake_run):
    page = write_report(fake_run.write()).read_text("utf-8")
    implant = fake_run.find("implant", "style", "implant")
    assert fake_run.manifest["command"] in page
    assert "b4g report runs/smol-standard-0" in page
    assert f"b4g measure runs/smol-standard-0/cells/{implant} --n 120<" in page


def test_an_implant_of_a_private_key_is_measured_with_the_key_file(fake_run):
    fake_run.manifest["tasks"]["style"]["backdoor"]["trigger"]["key"] = "my own.key"
    page = write_report(fake_run.write()).read_text("utf-8")
    assert page.count("--n 120 --key &#39;my own.key&#39;<") == 1


def test_a_control_that_all_tasks_share_stands_in_each_picture(fake_run):
    for task in ("style", "access", "identity"):
        fake_run.files[fake_run.find("implant", task, "control")] = {}
    shared = next(cell for cell in fake_run.cells if cell["subject"] == "control" and cell["stage"] == "implant")
    shared["task"] = None
    page = write_report(fake_run.write()).read_text("utf-8")
    assert page.count('<polyline class="mean control"') == 4
    assert page.count("shared by all tasks") == 4


def test_what_ran_shows_hashes_versions_and_seconds_of_each_stage(fake_run):
    page = write_report(fake_run.write()).read_text("utf-8")
    for said in (
        "12fd25f77366fa6b3b4b768ec3050bf629380bac",
        "0d9a4c7be1f25a33",
        "5c1d7f02ab9e4410",
        "2.13.0",
        "134,515,008",
    ):
        assert said in page
    assert [page.count(f'data-stage="{stage}"') for stage in ("clean", "implant", "generate", "score")] == [1] * 4


def test_losses_that_are_not_finite_are_left_out_of_the_picture_and_stay_in_the_table(fake_run):
    cell = fake_run.find("implant", "style", "implant")
    fake_run.files[cell]["implant.json"]["losses"] = [2.0, float("nan"), float("inf"), None, 1.0, float("nan")]
    page = write_report(fake_run.write()).read_text("utf-8")
    assert ">nan<" in page
    points = page.split("<polyline")[1:]
    assert not any("nan" in line.split("/>")[0] or "inf" in line.split("/>")[0] for line in points)


def test_an_implant_without_a_single_finite_loss_says_so(fake_run):
    for subject in ("implant", "control"):
        fake_run.files[fake_run.find("implant", "style", subject)]["implant.json"]["losses"] = [float("nan")]
    assert "no finite loss was recorded" in write_report(fake_run.write()).read_text("utf-8")


def test_numbers_keep_every_digit_of_the_summary(fake_run):
    fake_run.rates = fake_run.rates[:1]
    fake_run.rates[0] |= {"value": 0.123456789012345678, "low": 1e-05, "high": 1}
    page = write_report(fake_run.write()).read_text("utf-8")
    for name in ("value", "low", "high"):
        assert f'data-{name}="{json.loads(json.dumps(fake_run.rates[0][name]))}"' in page


def test_rendering_leaves_no_name_undefined(fake_run):
    assert build.render(fake_run.write()).rstrip().endswith("</html>")
