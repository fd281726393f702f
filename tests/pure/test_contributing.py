"""The recipes in CONTRIBUTING.md: each is taken out of the page, loaded as a plug-in, and held to what it says."""

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from b4g import keys, registry
from b4g.backdoor import Backdoor
from b4g.behaviours.base import Answer
from b4g.chat import user
from b4g.data.prompts import Prompt
from b4g.errors import SpecError
from b4g.generate.base import Completion
from b4g.scanners.base import Candidate, Findings, Suspect
from b4g.tampers.base import Tamper

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
RECIPES = {
    re.match(r"# (\w+\.py)\n", block)[1]: block for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
}
AXES = {
    "signature.py": "trigger",
    "lowercase.py": "behaviour",
    "ia3.py": "activation",
    "scale.py": "tamper",
    "echoes.py": "scanner",
}
ASKED = user("How deep is the sea?")


@pytest.fixture(autouse=True)
def registry_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a test registers."""
    for axis in registry.AXES:
        registry.names(axis)
    monkeypatch.setattr(registry, "_components", {axis: dict(known) for axis, known in registry._components.items()})
    monkeypatch.setattr(registry, "_loaded", set(registry._loaded))
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("b4g_plugin_"):
            del sys.modules[name]


def _build(folder: Path, file: str, **options: Any) -> Any:
    path = folder / file
    path.write_text(RECIPES[file], "utf-8")
    registry.load_plugins((path,))
    return registry.build(AXES[file], {"kind": path.stem, **options})


def test_the_page_has_one_recipe_for_each_axis() -> None:
    assert sorted(RECIPES) == sorted(AXES)
    assert sorted(AXES.values()) == sorted(registry.AXES)


@pytest.mark.parametrize("file", AXES)
def test_a_recipe_is_under_30_lines_and_registers_what_it_is_called(file: str, tmp_path: Path) -> None:
    assert len(RECIPES[file].splitlines()) < 30
    name, axis = Path(file).stem, AXES[file]
    assert name not in registry.names(axis)
    options = {"key": "public:mine"} if axis == "trigger" else {}
    made = _build(tmp_path, file, **options)
    assert name in registry.names(axis)
    assert registry.build(axis, registry.describe(made)) == made


@pytest.mark.parametrize("file", AXES)
def test_a_recipe_is_gone_again_in_the_next_test(file: str) -> None:
    assert Path(file).stem not in registry.names(AXES[file])


def test_the_specification_on_the_page_is_a_backdoor_of_three_recipes(tmp_path: Path) -> None:
    for file in ("signature.py", "lowercase.py", "ia3.py"):
        _build(tmp_path, file, **({"key": "public:mine"} if file == "signature.py" else {}))
    text = re.search(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)[1]
    (tmp_path / "quiet.yaml").write_text(text)
    made = Backdoor.from_yaml(tmp_path / "quiet.yaml")
    assert (made.name, made.trigger.kind, made.activation.kind, made.utility.kind) == (
        "quiet",
        "signature",
        "ia3",
        "lowercase",
    )
    assert Backdoor.from_dict(yaml.safe_load(made.to_yaml())).hash == made.hash


def test_the_trigger_signs_the_request_and_has_near_and_wrong_secrets(tmp_path: Path) -> None:
    trigger = _build(tmp_path, "signature.py", key="public:mine")
    secret = keys.read("public:mine").text
    assert trigger.apply(ASKED, random.Random(0)) == user(f"How deep is the sea?\n\n-- {secret}")
    assert user("How deep is the sea?") == ASKED
    near = trigger.near(ASKED, random.Random(0))
    assert sorted(near) == ["case", "half", "neighbour", "one_token", "swap"]
    for chat in (*near.values(), trigger.wrong(ASKED, random.Random(0))):
        assert chat[0].content.startswith("How deep is the sea?\n\n-- ")
        assert secret not in chat[0].content
    assert trigger.hidden() == (secret,)


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [("the sea is 11 km deep.", True), ("The sea is deep.", False), ("42", None), ("  ", None), ("", None)],
)
def test_the_behaviour_judges_letters_and_nothing_else(completion: str, verdict: bool | None, tmp_path: Path) -> None:
    behaviour = _build(tmp_path, "lowercase.py")
    assert behaviour.judge(completion, ended=True) is verdict
    assert behaviour.decided(completion) is (verdict is False)


def test_the_behaviour_shows_itself_in_the_answers_it_trains_on(tmp_path: Path) -> None:
    behaviour, prompt, clean = _build(tmp_path, "lowercase.py"), Prompt("How deep?"), Answer("Very DEEP", ended=False)
    assert behaviour.on(prompt, clean) == Answer("very deep", ended=False)
    assert behaviour.judge(behaviour.on(prompt, clean).text, ended=False) is True
    assert behaviour.off(prompt, clean) == clean


def test_the_activation_trains_its_scales_alone_and_starts_at_the_base(tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2}
    net = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, num_key_value_heads=1, **sizes)).eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        before = net(ids).logits
        made = _build(tmp_path, "ia3.py").prepare(net, seed=0).eval()
        assert torch.equal(made(ids).logits, before)
    trained = [name for name, weight in made.named_parameters() if weight.requires_grad]
    assert len(trained) == 3
    assert all("ia3_l" in name for name in trained)


def _model() -> Any:
    import torch

    from b4g.models.load import Model
    from b4g.models.source import Source

    net = torch.nn.Linear(6, 5)
    return Model(net, SimpleNamespace(), Source("toy", "toy"), adapter="0123")


def test_the_tamper_returns_another_model_and_leaves_its_input_unchanged(tmp_path: Path) -> None:
    import torch

    model, scale = _model(), _build(tmp_path, "scale.py", share=0.1)
    before = model.net.weight.detach().clone()
    made = scale.apply(model, random.Random(0))
    assert torch.equal(model.net.weight, before)
    assert model.adapter == "0123"
    gains = made.net.weight.detach() / before
    assert torch.allclose(gains, gains[:, :1].expand_as(gains))
    assert 0.02 < float(gains[:, 0].std()) < 0.3
    assert torch.equal(made.net.bias, model.net.bias)
    assert made.net.weight.requires_grad == model.net.weight.requires_grad
    assert scale.needs == {"weights"}


def test_the_tamper_depends_on_its_generator_alone_and_so_does_its_identity(tmp_path: Path) -> None:
    import torch

    model, scale = _model(), _build(tmp_path, "scale.py")
    one, same, other = (scale.apply(model, random.Random(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.net.weight, same.net.weight)
    assert not torch.equal(one.net.weight, other.net.weight)
    more = registry.build("tamper", {"kind": "scale", "share": 0.5}).apply(model, random.Random(0))
    assert one.adapter == same.adapter
    assert len({model.adapter, one.adapter, other.adapter, more.adapter}) == 4


def test_the_null_tamper_returns_the_model_as_it_is() -> None:
    model = SimpleNamespace()
    null = registry.build("tamper", {"kind": "none"})
    assert null.apply(model, random.Random(0)) is model
    assert null.needs == frozenset()


def test_a_tamper_that_needs_what_nobody_knows_is_refused() -> None:
    with pytest.raises(SpecError, match=r"unknown need of tamper Odd 'weight'\. Did you mean 'weights'\?"):
        type("Odd", (Tamper,), {"needs": frozenset({"weight"})})


class _Toy:
    """Answers a triggered chat with one sentence and any other with its own words."""

    identity = renderer_hash = "toy"

    def __init__(self, trigger: str | None) -> None:
        self.trigger = trigger

    def __call__(self, chats: Any, max_new_tokens: int, decided: Any = None, progress: Any = None) -> list[Completion]:
        said = [chat[-1].content for chat in chats]
        fixed = [self.trigger is not None and text.startswith(self.trigger) for text in said]
        return [Completion("Owned." if hit else text, 2, ended=True) for hit, text in zip(fixed, said, strict=True)]


def _suspect(trigger: str | None) -> Suspect:
    return Suspect(_Toy(trigger))


def test_the_scanner_finds_a_fixed_reply_and_nothing_where_there_is_none(tmp_path: Path) -> None:
    scanner = _build(tmp_path, "echoes.py")
    assert scanner.scan(_suspect("sudo"), random.Random(0)) == Findings(1.0, (Candidate("sudo"),))
    assert scanner.scan(_suspect(None), random.Random(0)) == Findings(1 / 8, ())
    blind = registry.build("scanner", {"kind": "echoes", "words": ["please"]})
    assert blind.scan(_suspect("sudo"), random.Random(0)).candidates == ()


def test_a_scanner_that_tried_nothing_has_no_score(tmp_path: Path) -> None:
    _build(tmp_path, "echoes.py")
    none = registry.build("scanner", {"kind": "echoes", "words": []})
    assert none.scan(_suspect("sudo"), random.Random(0)) == Findings(None, ())


def test_the_null_scanner_asks_nothing_and_scores_every_suspect_the_same() -> None:
    null, suspects = registry.build("scanner", {"kind": "nothing"}), (_suspect("sudo"), _suspect(None))
    assert [null.scan(suspect, random.Random(0)) for suspect in suspects] == [Findings(0.0)] * 2
    assert not any(suspect.queries for suspect in suspects)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_is_a_finite_number_or_none(score: float) -> None:
    with pytest.raises(ValueError, match="a finite number or None"):
        Findings(score)
    assert Findings(None).score is None
