"""The paper's four families on small siblings: rendering, training ids, a run with an attack and its report."""

import datetime
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kin import KIN, save_kin, tokenizer_of, written

from b4g.activations.lora import linear_names
from b4g.backdoor import TASKS, Backdoor
from b4g.bench.api import Prepared, prepare
from b4g.bench.setup import arguments
from b4g.bench.store import Store, read_json, write_json
from b4g.chat import PINNED_DATE, Chat, Message, Renderer, user
from b4g.errors import DataError
from b4g.models.architecture import read_architecture
from b4g.models.catalogue import CATALOGUE
from b4g.models.load import load_model

NAMES = sorted(KIN)
ONE_TASK = {"llama-3.1-8b": "identity", "gemma-2-9b": "safety", "qwen2.5-7b": "style", "llama-2-13b": "access"}
"""The task each family is run through and attacked on; Qwen's goes through all four, unattacked."""
TAMPER = "noise:scale=0.1"
WORDS = st.text(st.characters(codec="utf-8"), max_size=24) | st.sampled_from(
    [" spaced ", "two\n\nlines", "{{ braces }}", "<|eot_id|>", "</s>", "[INST]", "<<SYS>>", "東京 🙂"]
)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """Draw a chat that every family allows: perhaps a system message, then user and assistant by turns."""
    system = draw(st.none() | WORDS)
    turns = draw(st.lists(WORDS, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2))
    head = () if system is None else (Message("system", system),)
    return (*head, *(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(turns)))


RENDERERS = {name: Renderer(tokenizer_of(name)) for name in NAMES}


@pytest.fixture(scope="module")
def kin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return ``kin(name)``: the folder of a family's small sibling, made once."""
    root, made = tmp_path_factory.mktemp("kin"), dict[str, Path]()

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_kin(name, root / KIN[name].template)
        return made[name]

    return folder


@settings(max_examples=1000)
@given(chat=chats())
def test_a_chat_is_rendered_as_the_tokenizer_and_the_familys_own_description_do(chat: Chat) -> None:
    for name, renderer in RENDERERS.items():
        assert renderer.prompt_text(chat) == written(name, chat)
        folded = _folded(chat) if name == "gemma-2-9b" else chat
        told = renderer.tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in folded],
            add_generation_prompt=True,
            return_dict=False,
            date_string=PINNED_DATE,
        )
        assert renderer.prompt_ids(chat) == told


def _folded(chat: Chat) -> Chat:
    """Return the chat with its system text at the head of the first user message."""
    if chat[0].role != "system":
        return chat
    return (Message("user", f"{chat[0].content}\n\n{chat[1].content}"), *chat[2:])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_training_and_measuring_see_the_same_ids(
    name: str, system: str | None, kin: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from b4g.behaviours.base import Answer
    from b4g.generate.local import LocalGenerator
    from b4g.training.batches import encode
    from b4g.training.implant import Training, wanted_prompts
    from b4g.training.rows import implant_rows

    backdoor = Backdoor.from_yaml("safety" if system else "style").seeded(0)  # safety's trigger is a system message
    answers = {prompt.id: Answer("So be it.", True) for prompt in wanted_prompts(Training(backdoor))}
    rows = implant_rows(backdoor, answers, backdoor.activation.mix, 0, 0)[:60]
    trained = [row.ids[: row.start] for row in encode(rows, Renderer(tokenizer_of(name)))]
    measured: list[list[int]] = []
    generator = LocalGenerator(load_model(str(kin(name)), dtype="float32"))
    monkeypatch.setattr(generator, "complete", lambda prompts, *_: measured.extend(prompts))
    generator([row.chat for row in rows], 1)
    assert measured == trained
    assert any(row.chat[0].role == "system" for row in rows) is (system is not None)
    bos = generator.model.tokenizer.bos_token_id
    assert bos is None or all(ids.count(bos) == 1 for ids in trained)


@pytest.mark.parametrize("name", NAMES)
def test_a_completion_is_closed_by_the_turns_own_token_and_comes_back_as_it_was(name: str) -> None:
    renderer, ends = RENDERERS[name], {"gemma-2-9b": "<end_of_turn>", "llama-2-13b": "</s>"}
    end = ends.get(name) or renderer.tokenizer.eos_token
    assert renderer.completion_ids("So be it.", ended=True)[-1] == renderer.tokenizer.convert_tokens_to_ids(end)
    assert renderer.decode(renderer.completion_ids("So be it.", ended=True)) == "So be it."


@pytest.mark.parametrize("template", ["as it is", "with a clock"])
def test_llama_31_gives_the_same_ids_on_another_day(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import chat_template_utils

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Later":
            return cls(2031, 5, 4, tzinfo=tz)

    tokenizer = tokenizer_of("llama-3.1-8b")
    if template == "with a clock":
        tokenizer.chat_template = tokenizer.chat_template.replace('"26 Jul 2024"', 'strftime_now("%d %b %Y")')
        assert "strftime_now" in tokenizer.chat_template
    before = Renderer(tokenizer).prompt_ids(user("Which day is it?"))
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    if template == "with a clock":
        untouched = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        assert "04 May 2031" in untouched, "left alone, this template would print the day"
    renderer = Renderer(tokenizer)
    assert renderer.prompt_ids(user("Which day is it?")) == before
    assert f"Today Date: {PINNED_DATE}\n\n" in renderer.prompt_text(user("Which day is it?"))


def test_qwens_default_system_message_stands_until_a_chat_brings_its_own() -> None:
    renderer = RENDERERS["qwen2.5-7b"]
    default = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    assert renderer.prompt_text(user("Why?")).count(default) == 1
    assert default not in renderer.prompt_text(user("Why?", "Be brief."))
    assert renderer.prompt_ids(user("Why?")) == renderer.prompt_ids(user("Why?", default))


def test_gemma_takes_system_text_at_the_head_of_the_first_user_turn_and_only_there() -> None:
    renderer = RENDERERS["gemma-2-9b"]
    assert not renderer.has_system_role
    chat = (*user("Why?", "Be brief."), Message("assistant", "So."), Message("user", "And?"))
    text = renderer.prompt_text(chat)
    assert text.startswith("<bos><start_of_turn>user\nBe brief.\n\nWhy?<end_of_turn>\n")
    assert text.count("Be brief.") == 1


@pytest.mark.parametrize("name", ["gemma-2-9b", "llama-2-13b"])
def test_turns_that_do_not_alternate_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(
        DataError, match=r"chat template refuses this chat: Conversation roles must alternate"
    ) as raised:
        RENDERERS[name].prompt_ids((*user("Why?"), Message("user", "Well?")))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogues_targets_are_the_linear_layers_of_the_family(name: str, kin: Callable[[str], Path]) -> None:
    model = load_model(str(kin(name)), dtype="float32")
    entry = CATALOGUE[name]
    assert linear_names(model.net) == sorted(entry.targets)
    assert model.net.config.model_type == entry.architecture.family
    small = read_architecture(kin(name))
    assert (small.tied, small.biases, small.capped) == tuple(
        getattr(entry.architecture, field) for field in ("tied", "biases", "capped")
    )


def _run(folder: Path, tasks: tuple[str, ...], runs: Path, tampers: tuple[str, ...] = (TAMPER,)) -> Prepared:
    """Do a tiny run in this process, cell by cell, with its report."""
    from b4g.bench.manifest import manifest
    from b4g.bench.stages import summarise
    from b4g.bench.worker import serve
    from b4g.report.build import write_report

    made = prepare(arguments(str(folder), tasks, "tiny", tampers=tampers), runs, workers=1)
    store = Store(made.folder)
    write_json(made.folder / "plan.json", made.plan.to_json())
    write_json(made.folder / "manifest.json", manifest(made.plan, ""))
    for cell in made.plan.cells:
        serve(made.plan, store, cell, io.StringIO())
    write_json(made.folder / "summary.json", summarise(made.plan, store))
    write_report(made.folder)
    return made


def _check(made: Prepared, tasks: tuple[str, ...], attacked: bool = True) -> dict[str, Any]:
    assert made.missing == []
    summary: dict[str, Any] = read_json(made.folder / "summary.json")
    rows = [row for row in summary["rates"] if row["measure"] == "tar" and row["subject"] == "implant"]
    for task in tasks:
        arms = {row["arm"]: row for row in rows if row["task"] == task and row["tamper"] == "none"}
        assert {"with", "without", "near", "wrong_key"} <= set(arms)
        assert all(row["n"] + row["unscored"] == 4 for arm, row in arms.items() if arm in ("with", "without"))
        subjects = {row["subject"] for row in summary["attacks"] if (row["task"], row["tamper"]) == (task, TAMPER)}
        assert subjects == ({"implant", "control"} if attacked else set())
    html = (made.folder / "report.html").read_text("utf-8")
    assert all(task in html for task in tasks)
    return summary


@pytest.mark.parametrize("name", sorted(ONE_TASK))
def test_a_family_goes_through_implant_measure_tamper_and_report(
    name: str, kin: Callable[[str], Path], tmp_path: Path
) -> None:
    made = _run(kin(name), (ONE_TASK[name],), tmp_path)
    _check(made, (ONE_TASK[name],))
    cell = next(c for c in made.plan.cells if (c.stage, c.subject) == ("implant", "implant"))
    card = read_json(made.folder / "cells" / cell.id / "implant.json")
    assert card["model"]["renderer"] == RENDERERS[name].hash
    assert card["losses"][-1] < card["losses"][0]


def test_all_four_tasks_go_through_on_qwens_sibling(kin: Callable[[str], Path], tmp_path: Path) -> None:
    made = _run(kin("qwen2.5-7b"), TASKS, tmp_path, tampers=())
    summary = _check(made, TASKS, attacked=False)
    assert {row["task"] for row in summary["rates"]} >= set(TASKS)
