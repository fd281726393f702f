"""The picture of attacks: every dot has the number of its row, however many stand at one place."""

import re
from itertools import combinations

from b4g.report.attacks import attacked
from b4g.report.scatter import Point, cost_chart


def _row(tamper: str, seconds: float, left: float, subject: str = "implant") -> dict[str, object]:
    kept = {"retention": left, "retention_low": left - 0.1, "retention_high": left + 0.1, "n": 40}
    health = {"accuracy": 0.5, "perplexity": 9.0, "alive": True, "broken": left < 0.5}
    return {"task": "style", "subject": subject, "tamper": tamper, "seconds": seconds, "needs": [], **kept, **health}


def test_the_numbers_of_thirty_attacks_at_two_places_stand_clear_and_inside() -> None:
    points = [
        Point(i, f"t{i}", (0.0, 300.0)[i % 2], (1.0, 0.0)[i % 2], None, None, "good") for i in range(1, 31)
    ]  # fmt: skip
    drawn = re.findall(r'<text class="tick middle" x="([\d.]+)" y="([\d.]+)">(\d+)</text>', str(cost_chart(points)))
    assert sorted(int(number) for *_, number in drawn) == list(range(1, 31))
    places = [(float(x), float(y)) for x, y, _ in drawn]
    assert all(abs(a[0] - b[0]) >= 13 or abs(a[1] - b[1]) >= 11 for a, b in combinations(places, 2))
    assert all(0 < x < 720 and 0 < y < 240 for x, y in places)


def test_implant_and_control_of_one_attack_have_one_number_and_the_picture_names_it() -> None:
    rows = [_row("none", 0, 1.0), _row("sft", 60, 0.9), _row("sft", 60, 0.2, "control"), _row("prune", 1, 0.1)]
    (made,) = attacked(rows)
    assert [(one.tamper, one.subject, one.number) for one in made.attacks] == [
        ("none", "implant", 0), ("sft", "implant", 1), ("sft", "control", 1), ("prune", "implant", 2),
    ]  # fmt: skip
    assert re.findall(r"<title>(\w+)</title>", str(made.chart)) == ["sft", "prune"]
    assert made.sentence == "broken by prune, 1.0 s"
    assert attacked([_row("cleangen", 0, 0.0), *rows])[0].sentence == "broken by cleangen, at once"


def test_no_attack_with_a_retention_makes_no_picture() -> None:
    assert not cost_chart([Point(1, "sft", 3.0, None, None, None, "quiet")])
    assert not cost_chart([])
