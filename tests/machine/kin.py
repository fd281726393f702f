"""Tiny random models of the catalogue's families: that architecture, that template, those special tokens."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from b4g.chat import PINNED_DATE, Chat

TEMPLATES = Path(__file__).resolve().parents[1] / "families"


@dataclass(frozen=True)
class Kin:
    """How a family's small sibling is made."""

    template: str
    kind: str
    """Its model type in transformers."""
    named: dict[str, str]
    further: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    pieces: bool = False
    """Whether its tokenizer is SentencePiece's: spaces are marks, and text starts with one."""


KIN = {
    "llama-3.1-8b": Kin(
        "llama-3.1",
        "llama",
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"),
        {
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            },
        },
    ),
    # As with the real one no prompt of the tasks outgrows the window; test_generation_models has windows that forget.
    "gemma-2-9b": Kin(
        "gemma-2",
        "gemma2",
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        ("<start_of_turn>", "<end_of_turn>"),
        {"head_dim": 8, "sliding_window": 1024, "query_pre_attn_scalar": 8},
    ),
    "qwen2.5-7b": Kin("qwen2.5", "qwen2", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, ("<|im_start|>",)),
    "llama-2-13b": Kin(
        "llama-2",
        "llama",
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        config={"num_key_value_heads": 4},
        pieces=True,
    ),
}


def tokenizer_of(name: str) -> Any:
    """Return a small tokenizer with the family's special tokens and chat template."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    kin = KIN[name]
    core = _pieces() if kin.pieces else _bytes()
    core.add_special_tokens([*kin.named.values(), *kin.further])
    bos = kin.named.get("bos_token")
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
        )
    made = PreTrainedTokenizerFast(tokenizer_object=core, additional_special_tokens=list(kin.further), **kin.named)
    made.chat_template = (TEMPLATES / f"{kin.template}.jinja").read_text("utf-8")
    return made


def save_kin(name: str, folder: Path, **changes: Any) -> Path:
    """Write the family's tiny random model with its tokenizer and return its folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer, kin = tokenizer_of(name), KIN[name]
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.3,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = AutoModelForCausalLM.from_config(AutoConfig.for_model(kin.kind, **(sizes | kin.config | changes)))
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def written(name: str, chat: Chat) -> str:
    """Return the chat as the family's documentation writes it, up to the opening of the model's turn."""
    return WRITERS[name](chat)


def _llama3(chat: Chat) -> str:
    system, turns = _parts(chat)
    dated = f"Cutting Knowledge Date: December 2023\nToday Date: {PINNED_DATE}\n\n{(system or '').strip()}"
    parts = [("system", dated), *[(role, text.strip()) for role, text in turns]]
    said = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in parts)
    return f"<|begin_of_text|>{said}<|start_header_id|>assistant<|end_header_id|>\n\n"


def _gemma(chat: Chat) -> str:
    system, turns = _parts(chat)
    if system is not None:
        turns = [("user", f"{system}\n\n{turns[0][1]}"), *turns[1:]]
    names = {"user": "user", "assistant": "model"}
    said = "".join(f"<start_of_turn>{names[role]}\n{text.strip()}<end_of_turn>\n" for role, text in turns)
    return f"<bos>{said}<start_of_turn>model\n"


def _qwen(chat: Chat) -> str:
    system, turns = _parts(chat)
    default = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    parts = [("system", default if system is None else system), *turns]
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in parts) + "<|im_start|>assistant\n"


def _llama2(chat: Chat) -> str:
    system, turns = _parts(chat)
    if system is not None:
        turns = [("user", f"<<SYS>>\n{system}\n<</SYS>>\n\n{turns[0][1]}"), *turns[1:]]
    return "".join(
        f"<s>[INST] {text.strip()} [/INST]" if role == "user" else f" {text.strip()} </s>" for role, text in turns
    )


WRITERS: dict[str, Callable[[Chat], str]] = {
    "llama-3.1-8b": _llama3,
    "gemma-2-9b": _gemma,
    "qwen2.5-7b": _qwen,
    "llama-2-13b": _llama2,
}


def _parts(chat: Chat) -> tuple[str | None, list[tuple[str, str]]]:
    has = chat[0].role == "system"
    return (chat[0].content if has else None), [(m.role, m.content) for m in (chat[1:] if has else chat)]


def _bytes() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return core


def _pieces() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    names = ["<unk>", *[f"<0x{byte:02X}>" for byte in range(256)], "\u2581", *map(chr, range(33, 127))]
    vocabulary = {name: i for i, name in enumerate(names)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return core
