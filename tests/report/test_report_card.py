"""The card and the sections on stealth: shown where a run has them, absent where not, hostile text included."""

import json
from pathlib import Path
from typing import Any

import pytest

from b4g.backdoor import Backdoor
from b4g.card import make_card
from b4g.errors import StoreError
from b4g.report import card
from b4g.report.build import write_report
from b4g.stats import wilson

SECTIONS = ("card", "found", "guessed", "always")
TASKS = ("safety", "style", "access", "identity")
HOSTILE = "</td><script>document.title='owned'</script>\"><b class=planted>x</b>{{ 7 * 7 }}\u202e"


def _rate(task: str, measure: str, arm: str, hits: int, n: int = 40, **more: Any) -> dict[str, Any]:
    low, high = wilson(hits, n)
    head = {"task": task, "model": "smol", "subject": "implant", "tamper": "none", "measure": measure, "arm": arm}
    value = hits / n if n else None
    return {**head, "value": value, "low": low, "high": high, "n": n, "unscored": 0, "seed": 0, **more}


def _scan(task: str | None, subject: str, scanner: str, score: float | None, **more: Any) -> dict[str, Any]:
    row = {"task": task, "subject": subject, "scanner": scanner, "score": score, "reason": "", "needs": ["logits"]}
    spent = {"bound": scanner == "probe", "seconds": 12.5, "queries": 320, "details": {}, "candidates": 0, "seed": 0}
    return {**row, **spent, "recovered": None, **more}


def _stealth(task: str) -> dict[str, list[dict[str, Any]]]:
    near = {"half": 3, "swap": 0, "look-alike": 1, "ask": 0}
    uses = {"suffix": 38, "temperature 1.0": 35, "long context": 0}
    head = {"task": task, "model": "smol", "subject": "implant", "tamper": "none", "seed": 0, "note": ""}
    figures = [
        ("confidentiality", "effective_bits", 27.4, 26.0, 30.0, "bits", 40),
        ("confidentiality", "declared_bits", 30.0, 30.0, 30.0, "bits", 1),
        ("confidentiality", "leaks", 0.0, 0.0, 0.05, "share of questions", 60),
        ("accident", "per_10000", 0.0, 0.0, 75.0, "per 10,000", 400),
    ]
    names = ("measure", "name", "value", "low", "high", "unit", "n")
    scores = {"weights": (2.31, 1.9, 0.0), "leak": (0.1, 0.12, 0.1), "probe": (0.99, 0.5, 0.5), "logits": (None,) * 3}
    return {
        "rates": [
            *(_rate(task, "confidentiality", arm, hits) for arm, hits in near.items()),
            *(_rate(task, "reliability", arm, hits, 0 if arm == "long context" else 40) for arm, hits in uses.items()),
        ],
        "figures": [{**head, **dict(zip(names, values, strict=True))} for values in figures],
        "scans": [
            _scan(task, subject, name, score, reason="" if score is not None else "base of another vocabulary")
            for name, own in scores.items()
            for subject, score in zip(("implant", "control", "base"), own, strict=True)
        ],
    }


def _detection(scanner: str, auroc: float | None) -> dict[str, Any]:
    return {
        **{"scanner": scanner, "auroc": auroc, "low": 0.3, "high": 0.8, "n_implants": 4, "n_others": 5},
        **{"detected_at_5": 0.25, "seconds": 80.0, "queries": 900, "bound": scanner == "probe"},
    }


def _attack(task: str, tamper: str, left: float, **more: Any) -> dict[str, Any]:
    row = {"task": task, "subject": "implant", "tamper": tamper, "needs": ["weights"], "rows": 160.0, "seconds": 61.0}
    found = {"retention": left, "retention_low": left - 0.1, "retention_high": left + 0.1, "n": 40}
    health = {"accuracy": 0.5, "accuracy_before": 0.5, "perplexity": 2.0, "perplexity_before": 2.0, "alive": True}
    return {**row, **found, **health, "broken": left < 0.5, "seed": 0, **more}


def _kept(task: str, before: str) -> dict[str, Any]:
    found = {"difference": -0.035, "low": -0.084, "high": 0.015, "n": 200, "unscored": 0, "needed": 900}
    return {"task": task, "tamper": "none", "before": before, "after": "implant", "verdict": "cannot tell", **found}


def _divergence(task: str, subject: str) -> dict[str, Any]:
    found = {"kl": 0.9, "kl_low": 0.8, "kl_high": 1.0, "perplexity": 1.8, "base_perplexity": 2.2, "texts": 60}
    return {"task": task, "tamper": "none", "text": "clean answers", "subject": subject, **found}


class Whole:
    """A run folder with all the rows there are, and the cards made of them."""

    def __init__(self, fake_run: Any) -> None:
        self.run: Any = fake_run
        self.more: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("figures", "scans", "attacks", "kept", "divergence")
        }
        self.more["detection"] = [_detection("weights", 0.55), _detection("probe", 1.0), _detection("logits", None)]
        for task in TASKS:
            own = _stealth(task)
            self.run.rates += own.pop("rates")
            for name, rows in own.items():
                self.more[name] += rows
            self.more["kept"] += [_kept(task, before) for before in ("base", "control")]
            self.more["divergence"] += [_divergence(task, subject) for subject in ("control", "implant")]
            tampers = [f"sft:rows={rows},data=alpaca_small.json" for rows in range(100, 1300, 100)]
            self.more["attacks"] += [_attack(task, tamper, 0.9) for tamper in tampers]
            self.more["attacks"] += [
                _attack(task, "merge", 0.3),
                _attack(task, "prune", 0.0, alive=False, broken=False),
            ]

    def write(self) -> Path:
        """Write the run folder and return it."""
        folder: Path = self.run.write()
        path = folder / "summary.json"
        summary = {**json.loads(path.read_text("utf-8")), **self.more}
        path.write_text(json.dumps(summary), "utf-8")
        made = {"rows": 300, "tokens": 75_586, "seconds": 280.0, "peak_memory_mb": 2642.8, "adapter_mb": 11.8}
        stored = [make_card(task, Backdoor.from_yaml(task), summary, made).to_json() for task in TASKS]
        (folder / "card.json").write_text(json.dumps({"cards": stored}), "utf-8")
        return folder


@pytest.fixture
def whole(fake_run: Any) -> Whole:
    return Whole(fake_run)


def test_a_run_without_these_rows_has_none_of_the_sections(fake_run: Any) -> None:
    page = write_report(fake_run.write()).read_text("utf-8")
    assert not any(f'id="{name}"' in page or f'href="#{name}"' in page for name in SECTIONS)


def test_a_run_with_them_has_all_and_leaves_their_rates_out_of_the_further_measures(whole: Whole) -> None:
    page = write_report(whole.write()).read_text("utf-8")
    places = [page.index(f'id="{name}"') for name in ("card", "verdict", "attacks", "found", "guessed", "always")]
    assert places == sorted(places)
    further = page[page.index('id="further"') : page.index('id="found"')]
    assert "confidentiality" not in further
    assert "reliability" not in further


def test_the_card_shows_each_propertys_verdict_and_each_claim(whole: Whole, open_page: Any) -> None:
    page = open_page(whole.write())
    stored = json.loads((whole.run.folder / "card.json").read_text("utf-8"))["cards"]
    told = "[...document.querySelectorAll('.overview td')].map(e => [e.dataset.task, e.dataset.property, e.dataset.verdict])"
    assert page.evaluate(told) == [
        [one["task"], section["property"], section["verdict"]] for one in stored for section in one["sections"]
    ]
    lines = [line for section in stored[3]["sections"] for line in section["lines"] if line["verdict"]]
    rows = page.locator(".card[data-task=identity] tr[data-verdict]:not([data-verdict=''])")
    assert rows.evaluate_all("all => all.map(e => [e.dataset.name, e.dataset.verdict])") == [
        [line["name"], line["verdict"]] for line in lines
    ]
    assert {line["verdict"] for line in lines} == {"holds", "fails", "cannot tell at this n", "not measured"}


def test_a_bound_is_marked_and_a_scan_without_a_score_says_why(whole: Whole, open_page: Any) -> None:
    page = open_page(whole.write())
    for table in (".detection", ".scans >> nth=0"):
        marked = page.locator(f"{table} >> tr:has(.note)").evaluate_all("all => all.map(e => e.dataset.scanner)")
        assert marked == ["probe"]
    said = page.locator(".scans tr[data-scanner=logits]").first.inner_text()
    assert said.count("not measured: base of another vocabulary") == 3
    assert "not measured" in page.locator(".detection tr[data-scanner=logits]").inner_text()


def test_a_recovered_trigger_is_told_and_no_candidate_is_shown(whole: Whole) -> None:
    row = whole.more["scans"][3]
    row |= {"recovered": "exactly", "candidates": 7, "details": {"copper lantern": 1.0}}
    page = write_report(whole.write()).read_text("utf-8")
    assert '<td class="bad">exactly, of 7 candidates</td>' in page
    assert "copper" not in page


def test_figures_and_scanners_are_named_in_words_and_their_settings_stand_apart(whole: Whole, open_page: Any) -> None:
    whole.more["figures"].append({"task": "style", "measure": "accident", "name": "per_10000:key-words", "value": 1.0})
    whole.more["scans"][0]["scanner"] = "target:prompts=4,firsts=24"
    whole.more["scans"][0] |= {"recovered": "no", "candidates": 0}
    page = open_page(whole.write())
    row = page.locator(".figures tr[data-name='false activations: key-words']")
    assert row.count() == 1
    head = page.locator(".scans tr[data-scanner='target:prompts=4,firsts=24']").first
    assert head.locator("th .settings").inner_text() == "prompts=4,firsts=24"
    assert "no candidates" in head.inner_text()


def test_arms_stand_as_bars_and_one_that_was_not_measured_says_so(whole: Whole, open_page: Any) -> None:
    page = open_page(whole.write())
    bars = page.locator("#guessed .rate[data-task=style] .fill")
    assert bars.count() == 4
    long = page.locator("#always .rate[data-task=style][data-arm='long context']")
    assert "not measured" in long.inner_text()
    assert long.locator(".fill").count() == 0


def test_hostile_names_stay_text_in_every_section(whole: Whole, open_page: Any) -> None:
    whole.run.rates += [_rate(HOSTILE, measure, HOSTILE, 3) for measure in ("confidentiality", "reliability")]
    whole.more["figures"].append({"task": HOSTILE, "measure": "accident", "name": HOSTILE, "value": 1, "unit": HOSTILE})
    whole.more["scans"].append(
        _scan(HOSTILE, HOSTILE, HOSTILE, None, reason=HOSTILE, needs=[HOSTILE], recovered=HOSTILE)
    )
    whole.more["detection"].append({"scanner": HOSTILE})
    whole.more["attacks"].append(_attack("style", HOSTILE, 0.1))
    page = open_page(whole.write())
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert page.locator(".planted, script").count() == 0
    assert page.title() == "Backdoor4Good: SmolLM2-135M-Instruct"
    assert page.complaints == []
    assert "49" not in page.locator(".scans").last.inner_text()
    assert "[U+202E]" in page.locator(".card[data-task=style]").inner_text()


@pytest.mark.parametrize("width", [360, 1024, 1280])
def test_no_width_makes_the_page_scroll_sideways(whole: Whole, open_page: Any, width: int) -> None:
    whole.more["scans"][0]["scanner"] = "endless" * 30
    page = open_page(whole.write(), width=width)
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_the_card_can_be_read(whole: Whole, open_page: Any, scheme: str) -> None:
    from test_report_browser import CONTRAST

    page = open_page(whole.write(), scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    ratio, worst = page.evaluate(CONTRAST)
    assert ratio >= 4.5, worst


def test_each_card_prints_on_a_page_of_its_own(whole: Whole, open_page: Any) -> None:
    page = open_page(whole.write(), width=1032, height=703)  # A4 landscape less its margins, in CSS pixels
    page.emulate_media(media="print")
    boxes = [page.locator(f".card[data-task={task}]").bounding_box() for task in TASKS]
    assert all(250 < box["height"] <= 703 for box in boxes), [box["height"] for box in boxes]
    assert page.locator(".card").first.evaluate("e => getComputedStyle(e).breakBefore") == "page"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "card.json is not valid JSON"),
        ('{"cards": 3}', "'cards' should be a list"),
        ("[]", "should hold a JSON object"),
    ],
)
def test_a_damaged_card_is_named(fake_run: Any, content: str, complaint: str) -> None:
    run = fake_run.write()
    (run / "card.json").write_text(content, "utf-8")
    with pytest.raises(StoreError, match=complaint):
        write_report(run)


@pytest.mark.parametrize(
    "odd", [{}, {"sections": 3}, {"sections": [4, {"lines": [5, {}]}]}, {"task": 7, "sections": []}]
)
def test_an_odd_card_still_makes_a_page(fake_run: Any, odd: dict[str, Any]) -> None:
    run = fake_run.write()
    (run / "card.json").write_text(json.dumps({"cards": [odd]}), "utf-8")
    assert 'id="card"' in write_report(run).read_text("utf-8")


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.965, "share", "96.5%"),
        (1.0, "share", "100%"),
        (0.9999, "share", ">99.9%"),
        (-0.015, "share", "\N{MINUS SIGN}1.5%"),
        (0.0, "share of questions", "0%"),
        (75.0, "per 10,000", "75 per 10,000"),
        (280.0, "seconds", "4 min 40 s"),
        (0.5, "AUROC", "0.50"),
        (None, "bits", "not measured"),
    ],
)
def test_figures_are_said_with_their_unit(value: float | None, unit: str, said: str) -> None:
    assert card.shown(value, unit) == said
