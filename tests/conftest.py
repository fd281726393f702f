"""Fixtures that every test may use: a tiny tokenizer of several chat styles, and the folder of public data sets."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Two cores are shared with training: a slow example is no failure.
settings.register_profile("b4g", deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("b4g"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "b4g")

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{% set system = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token }}[INST] {{ system if loop.first else '' }}{{ message['content'] }} [/INST]"
    "{% else %} {{ message['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else 'user' }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
STYLES: dict[str, tuple[str | None, dict[str, str], tuple[str, ...]]] = {
    "chatml": (CHATML, {"eos_token": "<|endoftext|>"}, ("<|im_start|>", "<|im_end|>")),
    "llama2": (LLAMA2, {"bos_token": "<s>", "eos_token": "</s>"}, ()),
    "gemma": (GEMMA, {"bos_token": "<bos>", "eos_token": "<eos>"}, ("<start_of_turn>", "<end_of_turn>")),
    "none": (None, {"bos_token": "<s>", "eos_token": "</s>"}, ()),
}
"""Chat template, named special tokens and further special tokens, by style."""

MakeTokenizer = Callable[..., Any]


def _build(style: str, **changes: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    template, named, further = STYLES[style]
    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([*named.values(), *further])
    if "bos_token" in named:
        bos = named["bos_token"]
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, **({**named, "additional_special_tokens": list(further)} | changes)
    )
    made.chat_template = template
    return made


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    """Return ``make(style, **changes)``: a byte-level tokenizer whose chat template is in that model family's style."""
    return _build


@pytest.fixture
def shared_data() -> Path:
    """Return the folder of public data sets: ``$B4G_SHARED/data``, or ``shared/data`` beside the checkout."""
    named = os.environ.get("B4G_SHARED")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    folder = root / "data"
    if not folder.is_dir():
        reason = "no folder of public data sets: set B4G_SHARED to the folder that holds data/"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
