"""A bad name stops a run before the first second of compute, and says which one was meant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b4g.bench.api import prepare
from b4g.bench.setup import arguments, plan_of
from b4g.errors import B4GError


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": ("stile",)}, r"no specification at stile\. Give a YAML file or a task: safety, style"),
        ({"preset": "quik"}, r"unknown preset 'quik'\. Did you mean 'quick'\?"),
        ({"model": "smolm2-135m"}, r"Did you mean 'smollm2-135m'\?"),
        ({"plugins": ("nowhere.py",)}, r"plugin nowhere\.py failed to import.*no Python file"),
        ({"tasks": ("style", "style")}, r"needs backdoors of different names, not: style, style"),
        ({"tasks": ()}, "needs backdoors of different names, not: none"),
    ],
)
def test_a_bad_name_stops_before_anything_is_done(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    asked = arguments(str(tiny_model), ("style",), "tiny") | changes
    with pytest.raises(B4GError, match=said):
        prepare(asked, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trigger": {"kind": "phrse", "key": "public:x"}}, r"unknown trigger 'phrse'\. Did you mean 'phrase'\?"),
        ({"activation": {"rnak": 3}}, r"unknown field of activation 'lora' 'rnak'\. Did you mean 'rank'\?"),
        ({"utility": {"kind": "identty"}}, r"unknown behaviour 'identty'\. Did you mean 'identity'\?"),
        ({"trigger": {"key": "gone.key"}}, r"no key file at .*gone\.key\. Make one with: b4g keygen"),
        ({"activation": {"rank": 0}}, "rank must be at least 1"),
    ],
)
def test_a_bad_word_in_a_specification_stops_before_anything_is_done(
    tiny_model: Path, spec: Callable[..., Path], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(B4GError, match=said):
        plan_of(arguments(str(tiny_model), (str(spec(**change)),), "tiny"))
