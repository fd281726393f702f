"""The numbers of the page, read back by a browser, are those of summary.json."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

PLACE = ("task", "subject", "arm", "measure", "model", "tamper", "seed")
COUNTS = ("n", "unscored")
READ = """selector => [...document.querySelectorAll(selector)].map(e => ({...e.dataset, says: e.textContent}))"""


def _number(text: str) -> float | None:
    return float(text) if text else None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _places(rates: list[dict[str, Any]]) -> dict[tuple[str, ...], tuple[Any, ...]]:
    said = {tuple(str(rate[name]).replace("none", "") for name in PLACE): rate for rate in rates}
    return {place: tuple(rate[name] for name in ("value", "low", "high", *COUNTS)) for place, rate in said.items()}


def _shown(page: Any) -> dict[tuple[str, ...], tuple[Any, ...]]:
    found = page.evaluate(READ, ".rate[data-task]")
    return {
        tuple(one[name] for name in PLACE): (
            *(_number(one[name]) for name in ("value", "low", "high")),
            *(int(one[name]) for name in COUNTS),
        )
        for one in found
    }


def _summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text("utf-8"))


def test_every_rate_of_the_summary_is_on_the_page_and_no_other(fake_run, open_page):
    fake_run.add_rate("style", "implant", "tar", "with", [True, False], tamper="fine-tune 50 steps")
    fake_run.add_rate("style", "implant", "tar", "with", [True, True, None], seed=1)
    run = fake_run.write()
    assert _shown(open_page(run)) == _places(_summary(run)["rates"])


@pytest.mark.parametrize("tamper", [None, "none", ""])
def test_a_model_that_nothing_changed_stands_in_the_first_table(fake_run, open_page, tamper):
    fake_run.rates = []
    fake_run.add_rate("style", "implant", "tar", "with", [True], tamper=tamper)
    fake_run.add_rate("style", "implant", "tar", "with", [False], tamper="prune 20%")
    page = open_page(fake_run.write())
    assert page.locator("#verdict .rate[data-task]").all_text_contents() != []
    assert page.locator("#tampered .rate[data-task]").get_attribute("data-tamper") == "prune 20%"
    assert page.locator("#verdict .rate[data-task]").get_attribute("data-value") == "1.0"


def test_every_difference_of_the_summary_is_on_the_page(fake_run, open_page):
    run = fake_run.write()
    names = ("difference", "low", "high", "p", "n", "unscored")
    shown = open_page(run).evaluate(READ, ".difference")
    wanted = _summary(run)["differences"]
    assert [tuple(_number(one[name]) for name in names) for one in shown] == [
        tuple(one[name] for name in names) for one in wanted
    ]
    assert [(one["task"], one["arm"]) for one in shown] == [(one["task"], one["arm"]) for one in wanted]


def test_the_words_beside_a_bar_say_what_its_data_say(fake_run, open_page):
    fake_run.rates = []
    fake_run.add_rate("style", "implant", "tar", "with", [True] * 116 + [False] * 4 + [None] * 2)
    says = open_page(fake_run.write()).evaluate(READ, ".headline .rate[data-task]")
    assert [_one_line(one["says"]) for one in says] == ["97% [92, 99] n=120 (2 unscored)"]


def test_the_bar_and_its_whisker_are_drawn_where_the_numbers_say(fake_run, open_page):
    fake_run.rates = []
    fake_run.add_rate("style", "implant", "tar", "with", [True] * 30 + [False] * 90)
    rate = fake_run.rates[0]
    drawn = open_page(fake_run.write()).evaluate(
        """() => {
            const at = name => document.querySelector(`.headline .${name}`).getBoundingClientRect()
            const track = at('track'), share = x => (x - track.left) / track.width
            return [share(at('fill').right), share(at('whisker').left), share(at('whisker').right)]
        }"""
    )
    assert drawn == pytest.approx([rate["value"], rate["low"], rate["high"]], abs=0.012)


def test_the_verdict_is_one_sentence_a_task(fake_run, open_page):
    fake_run.rates = []
    for arm, hits in (("with", 97), ("without", 2), ("near", 4)):
        fake_run.add_rate("style", "implant", "tar", arm, [True] * hits + [False] * (100 - hits))
        fake_run.add_rate("style", "control", "tar", arm, [True] * 3 + [False] * 97)
    page = open_page(fake_run.write())
    said = _one_line(page.locator(".verdict[data-task=style]").text_content())
    assert said == "style: 97% with the trigger, 2% without, 4% near control 3% with the trigger"
    assert page.locator(".verdict").count() == 4


def test_a_rate_over_no_scored_completion_says_not_measured_and_never_zero(fake_run, open_page):
    fake_run.rates = []
    fake_run.add_rate("style", "implant", "tar", "with", [None, None])
    fake_run.add_rate("style", "implant", "kept", "with", [])
    said = open_page(fake_run.write()).locator(".rate[data-task]").all_text_contents()
    assert [_one_line(one) for one in said] == ["not measured n=0 (2 unscored)", "not measured n=0"]


def test_a_task_without_any_rate_is_not_measured_rather_than_absent(fake_run, open_page):
    fake_run.rates = [rate for rate in fake_run.rates if rate["task"] != "identity"]
    page = open_page(fake_run.write())
    said = _one_line(page.locator(".verdict[data-task=identity]").text_content())
    assert said == "identity: not measured with the trigger, not measured without"
    cells = page.locator(".headline tbody", has_text="identity").locator("td").all_text_contents()
    assert {_one_line(cell) for cell in cells} == {"not measured"}


def test_a_failed_implant_leaves_a_hole_and_not_the_verdict_of_the_base(fake_run, open_page):
    fake_run.rates = [rate for rate in fake_run.rates if (rate["task"], rate["subject"]) != ("style", "implant")]
    said = open_page(fake_run.write()).locator(".verdict[data-task=style]").text_content()
    assert _one_line(said).startswith("style: not measured with the trigger")


def test_a_difference_that_was_not_measured_says_so(fake_run, open_page):
    empty = {"difference": None, "low": None, "high": None, "p": None, "n": 0, "unscored": 4}
    where = {"task": "style", "arm": "with", "measure": "tar", "before": "base", "after": "implant"}
    fake_run.differences = [{**where, **empty}]
    row = open_page(fake_run.write()).locator(".difference")
    assert "not measured" in row.text_content()
    assert not re.search(r"\b0%|\+0|p 0", row.text_content())


def test_near_triggers_measured_by_kind_alone_show_the_worst_kind_in_the_first_table(fake_run, open_page):
    fake_run.rates = []
    fake_run.add_rate("style", "implant", "tar", "with", [True] * 9)
    fake_run.add_rate("style", "implant", "near:case", "near", [True, False, False])
    fake_run.add_rate("style", "implant", "near:half", "near", [True, True, False])
    page = open_page(fake_run.write())
    assert "worst kind: half" in page.locator(".headline [data-measure='near:half']").text_content()
    assert "67% near" in page.locator(".verdict[data-task=style]").text_content()


def test_tasks_arms_measures_subjects_and_fields_of_plugins_show_up(fake_run, open_page):
    fake_run.manifest["tasks"]["watermark"] = {"backdoor": {"name": "watermark"}, "backdoor_hash": "00"}
    fake_run.add_rate("watermark", "implant", "tar", "with", [True] * 5)
    fake_run.add_rate("watermark", "implant", "tar", "moon_phase", [True, False])
    fake_run.add_rate("watermark", "merged", "green_tokens", "with", [True, False, None], temperature=0.7)
    run = fake_run.write()
    page = open_page(run)
    assert _shown(page) == _places(_summary(run)["rates"])
    text = page.locator("main").inner_text()
    for name in ("watermark", "moon phase", "green tokens", "merged", "temperature 0.7"):
        assert name in text
