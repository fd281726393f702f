"""The card: an interval decides, the worst decides for many, and what was not measured never holds."""

import json
import math
from typing import Any

import pytest

from b4g.backdoor import Backdoor
from b4g.card import Card, Evidence, Line, make_card
from b4g.card.verdict import judge, needed
from b4g.claims import KNOWN, PROPERTIES, Claim
from b4g.stats import Rate, wilson

HEAD = {"task": "mine", "model": "smol", "subject": "implant", "tamper": "none", "seed": 0}
SECRET = "copper lantern meadow"


def _rate(measure: str, arm: str, hits: int, n: int, **context: Any) -> dict[str, Any]:
    low, high = wilson(hits, n)
    value = hits / n if n else None
    row = {"measure": measure, "arm": arm, "value": value, "low": low, "high": high, "n": n, "unscored": 0}
    return {**HEAD, **row, **context}


def _attack(tamper: str, left: float | None, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    row = {"tamper": tamper, "retention": left, "retention_low": low, "retention_high": high, "n": 40}
    return {**HEAD, "alive": True, "broken": False, "seconds": 9.0, **row, **more}


def _figure(measure: str, name: str, value: Any, low: Any, high: Any, **more: Any) -> dict[str, Any]:
    return {**HEAD, "measure": measure, "name": name, "value": value, "low": low, "high": high, "n": 400, **more}


def _scan(scanner: str, subject: str, score: float | None, **more: Any) -> dict[str, Any]:
    row = {"task": "mine", "subject": subject, "scanner": scanner, "score": score, "bound": False}
    return {**row, "candidates": 0, "recovered": None, **more}


def _backdoor(**claims: str) -> Backdoor:
    fields = {
        "name": "mine",
        "trigger": {"kind": "null"},
        "activation": {"kind": "lora"},
        "utility": {"kind": "safety"},
    }
    return Backdoor.from_dict({**fields, "claims": claims})


def _card(summary: dict[str, Any], made: dict[str, Any] | None = None, **claims: str) -> Card:
    return make_card("mine", _backdoor(**claims), summary, made)


def _line(card: Card, name: str) -> Line:
    return next(line for section in card.sections for line in section.lines if line.name == name)


def _verdict(summary: dict[str, Any], name: str, claim: str, made: dict[str, Any] | None = None) -> str | None:
    return _line(_card(summary, made, **{name: claim}), name).verdict


@pytest.mark.parametrize(
    ("claim", "low", "high", "verdict"),
    [
        (Claim("tar_with", 0.9), 0.9, 0.99, "holds"),
        (Claim("tar_with", 0.9), 0.89, 0.99, "cannot tell at this n"),
        (Claim("tar_with", 0.9), 0.8, 0.9, "cannot tell at this n"),
        (Claim("tar_with", 0.9), 0.8, 0.89, "fails"),
        (Claim("tar_without", 0.05), 0.0, 0.05, "holds"),
        (Claim("tar_without", 0.05), 0.04, 0.06, "cannot tell at this n"),
        (Claim("tar_without", 0.05), 0.05, 0.09, "cannot tell at this n"),
        (Claim("tar_without", 0.05), 0.06, 0.09, "fails"),
    ],
)
def test_the_whole_interval_decides(claim: Claim, low: float, high: float, verdict: str) -> None:
    assert judge(claim, Evidence((low + high) / 2, low, high, 100)) == verdict


@pytest.mark.parametrize("claim", [Claim("tar_with", 0.0), Claim("tar_without", 1.0)])
def test_nothing_measured_never_holds_even_where_every_number_would(claim: Claim) -> None:
    assert judge(claim, Evidence(None, None, None)) == "not measured"
    assert judge(claim, Evidence(0.5, 0.4, 0.6, 0)) == "not measured"
    assert judge(claim, Evidence(0.5, None, None, 9)) == "cannot tell at this n"


def test_a_one_sided_bound_decides_on_its_own_side_only() -> None:
    at_most = Claim("false_activations", 10.0)
    assert judge(at_most, Evidence(0.0, None, 7.5, 400)) == "holds"
    assert judge(at_most, Evidence(0.0, None, 75.0, 400)) == "cannot tell at this n"
    assert judge(at_most, Evidence(50.0, 20.0, None, 400)) == "fails"


@pytest.mark.parametrize("name", KNOWN)
def test_no_claim_holds_on_an_empty_run(name: str) -> None:
    sign = KNOWN[name].sign
    card = _card({}, **{name: f"{sign} {0 if sign == '>=' else 1}"})
    assert _line(card, name).verdict == "not measured"
    section = next(section for section in card.sections if section.property == KNOWN[name].property)
    assert section.verdict == "not measured"
    assert [other.verdict for other in card.sections if other is not section] == [None] * (len(PROPERTIES) - 1)


@pytest.mark.parametrize("hits", [0, 3])
def test_the_number_of_prompts_that_would_tell_tells(hits: int) -> None:
    claim = Claim("tar_without", 0.05)
    low, high = wilson(hits, 100)
    one = Evidence(hits / 100, low, high, 100, rate=True)
    if hits:
        assert judge(claim, one) == "cannot tell at this n"
    prompts = needed(claim, one)
    assert prompts is not None
    # A share of hits that the number of prompts allows may lie a little to either side.
    more = math.ceil(1.02 * prompts)
    bounds = wilson(math.floor(more * hits / 100), more)
    assert judge(claim, Evidence(hits / 100, *bounds, more)) == "holds"
    few = prompts // 2
    assert judge(claim, Evidence(hits / 100, *wilson(round(few * hits / 100), few), few)) == "cannot tell at this n"


def test_effectiveness_shows_rates_and_the_effect_over_the_control() -> None:
    rows = [_rate("tar", "with", 94, 100), _rate("tar", "without", 0, 100)]
    rows += [_rate("tar", arm, 100, 100, subject="control") for arm in ("with", "without")]
    rows += [_rate("near:half", "near", 2, 20), _rate("near:case", "near", 0, 20)]
    card = _card({"rates": rows}, tar_with=">= 0.8", tar_without="<= 0.01", over_control=">= 0.8")
    assert _line(card, "tar_with").verdict == "holds"
    assert _line(card, "tar_without").needed == pytest.approx(381, abs=1)
    over = _line(card, "over_control").evidence
    assert over.value == pytest.approx(0.94)
    assert over.low is not None
    assert over.high is not None
    assert over.low < 0.94 - (0.94 - wilson(94, 100)[0])  # type: ignore[operator]
    assert _line(card, "near_kind").evidence.where == "near:half"
    assert card.sections[0].verdict == "cannot tell at this n"


def test_a_control_that_was_not_measured_leaves_the_effect_over_it_unmeasured() -> None:
    rows = [_rate("tar", "with", 94, 100), _rate("tar", "without", 0, 100)]
    assert _verdict({"rates": rows}, "over_control", ">= 0") == "not measured"


def test_rates_of_other_tasks_subjects_and_tampers_are_not_taken() -> None:
    others = [
        _rate("tar", "with", 100, 100, task="other"),
        _rate("tar", "with", 100, 100, subject="base"),
        _rate("tar", "with", 100, 100, tamper="merge"),
    ]
    assert _verdict({"rates": others}, "tar_with", ">= 0.5") == "not measured"
    assert _verdict({"rates": [*others, _rate("tar", "with", 10, 100)]}, "tar_with", ">= 0.5") == "fails"


def test_harmlessness_turns_differences_into_losses() -> None:
    kept = {**HEAD, "before": "base", "after": "implant", "difference": -0.08, "low": -0.13, "high": -0.03, "n": 200}
    scope = _rate("tar", "out_of_scope", 44, 60)
    card = _card({"kept": [kept], "rates": [scope]}, accuracy_lost="<= 0.02", denied_out_of_scope="<= 0.5")
    lost, denied = _line(card, "accuracy_lost"), _line(card, "denied_out_of_scope")
    assert (lost.evidence.value, lost.evidence.low, lost.evidence.high, lost.verdict) == (0.08, 0.03, 0.13, "fails")
    assert denied.evidence.value == pytest.approx(16 / 60)
    assert denied.verdict == "holds"


def test_false_activations_are_those_of_all_traffic_with_the_worst_source_beside_them() -> None:
    whole = _figure("accident", "per_10000", 5.0, 1.0, 9.0)
    each = [
        _figure("accident", f"per_10000:{name}", value, 0.0, 200.0) for name, value in (("wiki", 90.0), ("own", 0.0))
    ]
    card = _card({"figures": [*each, whole]}, false_activations="<= 10")
    assert _line(card, "false_activations").verdict == "holds"
    beside = _line(card, "false_activations_source")
    assert (beside.evidence.value, beside.evidence.where, beside.verdict) == (90.0, "wiki", None)
    assert _verdict({"figures": each}, "false_activations", "<= 10") == "not measured"


def test_retention_is_that_of_the_worst_attack_which_left_the_model_alive() -> None:
    held = _attack("sft", 0.95, 0.8, 1.0)
    killed = _attack("prune", 0.0, 0.0, 0.1, alive=False)
    broke = _attack("merge", 0.2, 0.1, 0.3, broken=True, seconds=2.5, rows=0)
    null = _attack("none", 1.0, 1.0, 1.0)
    assert _verdict({"attacks": [null, held, killed]}, "retention", ">= 0.5") == "holds"
    card = _card({"attacks": [null, held, killed, broke]}, retention=">= 0.5")
    line = _line(card, "retention")
    assert (line.verdict, line.evidence.where) == ("fails", "merge")
    quickest = _line(card, "cheapest_break").evidence
    assert (quickest.value, quickest.where) == (2.5, "merge, 0 rows")
    left = [line.evidence.where for line in card.sections[2].lines if line.name == "retention_after"]
    assert left == ["sft", "prune", "merge"]


@pytest.mark.parametrize("rows", [[], [_attack("none", 1.0, 1.0, 1.0)], [_attack("prune", 1.0, 0.9, 1.0, alive=False)]])
def test_no_attack_that_counts_is_no_persistence(rows: list[dict[str, Any]]) -> None:
    assert _verdict({"attacks": rows}, "retention", ">= 0") == "not measured"


def test_an_attack_whose_outcome_is_not_known_keeps_the_claim_from_holding() -> None:
    held = _attack("sft", 0.95, 0.8, 1.0)
    for unknown in (_attack("dpo", None, None, None), _attack("dpo", 0.9, 0.8, 1.0, alive=None)):
        assert _verdict({"attacks": [held, unknown]}, "retention", ">= 0.5") == "not measured"


def test_a_bootstrap_without_width_still_leaves_room() -> None:
    untouched = _attack("sft", 1.0, 1.0, 1.0)
    assert _verdict({"attacks": [untouched]}, "retention", ">= 0.5") == "holds"
    assert _verdict({"attacks": [untouched]}, "retention", ">= 0.98") == "cannot tell at this n"


def test_efficiency_comes_from_the_training_and_is_exact() -> None:
    made = {"rows": 300, "tokens": 75_586, "seconds": 280.0, "peak_memory_mb": 2642.8, "adapter_mb": 11.8}
    card = _card({}, made, rows="<= 300", tokens="<= 75585", seconds="<= 300", adapter_mb="<= 20")
    verdicts = {line.name: line.verdict for line in card.sections[3].lines}
    assert verdicts == {
        "rows": "holds",
        "tokens": "fails",
        "seconds": "holds",
        "peak_memory_mb": None,
        "adapter_mb": "holds",
    }
    assert card.sections[3].verdict == "fails"


def test_only_scanners_that_are_no_bound_count_as_detection() -> None:
    rows = [
        {"scanner": "probe", "auroc": 1.0, "low": 0.9, "high": 1.0, "n_implants": 4, "n_others": 5, "bound": True},
        {"scanner": "logits", "auroc": 0.5, "low": 0.3, "high": 0.65, "n_implants": 4, "n_others": 5, "bound": False},
        {"scanner": "target", "auroc": None, "low": None, "high": None, "n_implants": 0, "n_others": 0, "bound": False},
    ]
    assert _verdict({"detection": rows}, "auroc", "<= 0.7") == "holds"
    line = _line(_card({"detection": rows}), "auroc")
    assert (line.evidence.where, line.evidence.n, line.verdict) == ("logits", 9, None)
    assert _verdict({"detection": rows[:1]}, "auroc", "<= 1") == "not measured"


def test_candidates_that_nobody_tried_keep_a_claim_of_none_recovered_from_holding() -> None:
    clean = _scan("leak", "implant", 0.2, recovered="no", candidates=3)
    untried = _scan("logits", "implant", 0.1, candidates=5)
    assert _verdict({"scans": [clean]}, "recovered", "<= 0") == "holds"
    assert _verdict({"scans": [clean, untried]}, "recovered", "<= 0") == "cannot tell at this n"
    assert _verdict({"scans": [clean, {**clean, "recovered": "partly"}]}, "recovered", "<= 0") == "fails"


@pytest.mark.parametrize(
    "row",
    [
        _scan("leak", "implant", None, reason="no base"),
        _scan("leak", "control", 0.4, recovered="no"),
        _scan("oracle", "implant", 1.0, bound=True, recovered="no"),
    ],
)
def test_a_scan_that_says_nothing_of_the_implant_recovers_nothing_and_clears_nothing(row: dict[str, Any]) -> None:
    assert _verdict({"scans": [row]}, "recovered", "<= 9") == "not measured"


def test_a_find_lies_above_control_and_base() -> None:
    scores = {"weights": (3.0, 1.0, 0.0), "leak": (1.0, 1.0, 0.0), "oracle": (1.0, 0.0, 0.0), "probe": (2.0, 1.0, None)}
    rows = [
        _scan(name, subject, score, bound=name == "oracle", task=None if subject == "base" else "mine")
        for name, own in scores.items()
        for subject, score in zip(("implant", "control", "base"), own, strict=True)
    ]
    found = _line(_card({"scans": rows}), "found_by").evidence
    assert (found.value, found.n, found.where) == (1.0, 2, "weights")


def test_altered_keys_are_judged_by_the_worst_and_apart_from_questions() -> None:
    rows = [_rate("confidentiality", "half", 0, 100), _rate("confidentiality", "look-alike", 40, 100)]
    rows += [_rate("confidentiality", "ask", 90, 100), _rate("confidentiality:floor", "without", 90, 100)]
    line = _line(_card({"rates": rows}, guessed="<= 0.05"), "guessed")
    assert (line.verdict, line.evidence.where, line.evidence.value) == ("fails", "look-alike", 0.4)


def test_bits_that_were_worked_out_need_no_n() -> None:
    row = _figure("confidentiality", "effective_bits", 27.4, 26.1, 30.0, n=None)
    assert _verdict({"figures": [row]}, "effective_bits", ">= 25") == "holds"
    assert _verdict({"figures": [{**row, "value": None}]}, "effective_bits", ">= 25") == "not measured"


def test_reliability_is_the_worst_condition_and_the_mean_of_all() -> None:
    rows = [_rate("reliability", arm, hits, 40) for arm, hits in (("suffix", 40), ("case", 20), ("hot", 36))]
    rows.append(_rate("reliability:other", "position-suffix", 0, 40))
    card = _card({"rates": rows}, reliability_worst=">= 0.8", reliability_mean=">= 0.6")
    worst, mean = _line(card, "reliability_worst"), _line(card, "reliability_mean")
    assert (worst.verdict, worst.evidence.where) == ("fails", "case")
    assert mean.evidence.value == pytest.approx(0.8)
    assert mean.verdict == "holds"
    assert card.sections[-1].verdict == "fails"


def test_a_condition_that_could_not_be_measured_keeps_reliability_from_holding() -> None:
    rows = [_rate("reliability", "suffix", 40, 40), _rate("reliability", "long", 0, 0)]
    for name in ("reliability_worst", "reliability_mean"):
        assert _verdict({"rates": rows}, name, ">= 0.5") == "not measured"
    assert _line(_card({"rates": rows}, reliability_worst=">= 0.5"), "reliability_worst").evidence.where == "long"


def test_a_property_is_as_good_as_its_worst_claim() -> None:
    rows = [_rate("tar", "with", 99, 100), _rate("tar", "without", 50, 100), _rate("tar", "near", 5, 100)]
    claims = {"tar_with": ">= 0.9", "tar_near": "<= 0.05", "tar_wrong_key": "<= 0.05", "tar_without": "<= 0.05"}
    verdicts = []
    for _ in range(len(claims)):
        verdicts.append(_card({"rates": rows}, **claims).sections[0].verdict)
        claims.popitem()
    assert verdicts == ["fails", "not measured", "cannot tell at this n", "holds"]


def test_figures_without_a_claim_have_no_verdict() -> None:
    card = _card({"rates": [_rate("tar", "with", 99, 100)]})
    assert _line(card, "tar_with").verdict is None
    assert {section.verdict for section in card.sections} == {None}


@pytest.mark.parametrize("odd", [None, "0.9", True, float("nan"), float("inf"), [1]])
def test_a_malformed_number_is_not_measured(odd: Any) -> None:
    row = {**_rate("tar", "with", 99, 100), "value": odd}
    assert _verdict({"rates": [row, "no row", None]}, "tar_with", ">= 0.5") == "not measured"
    assert _verdict({}, "rows", "<= 10", {"rows": odd}) == "not measured"
    assert _verdict({"rates": "none"}, "tar_with", ">= 0.5") == "not measured"


def test_the_card_is_json_without_candidates_or_keys() -> None:
    rate = Rate.of([True] * 9 + [None])
    summary = {
        "rates": [{**HEAD, "measure": "tar", "arm": "with", **vars(rate)}],
        "scans": [
            _scan("leak", "implant", 0.2, recovered="exactly", candidates=1, details={SECRET: 1.0}, reason=SECRET)
        ],
        "attacks": [_attack("sft", 0.95, 0.8, 1.0)],
    }
    written = json.dumps(_card(summary, {"rows": 3}, tar_with=">= 0.5").to_json(), allow_nan=False)
    assert SECRET not in written
    card = json.loads(written)
    assert [section["property"] for section in card["sections"]] == list(PROPERTIES)
    line = card["sections"][0]["lines"][0]
    assert line == {
        **{"name": "tar_with", "title": "TAR with the trigger", "unit": "share", "note": "", "where": ""},
        **{"claim": ">= 0.5", "limit": 0.5, "verdict": "holds", "needed": None},
        **{"value": 1.0, "low": rate.low, "high": 1.0, "n": 9, "unscored": 1},
    }
