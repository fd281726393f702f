"""Load a model with its tokenizer and renderer; put an adapter into its weights."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from b4g.chat import Renderer
from b4g.errors import ModelError, SpecError, unknown
from b4g.models.attention import use_grouped
from b4g.models.dtype import dtype_name
from b4g.models.source import Source, content_hash, first_line, resolve, unreachable

QUANTIZED = ("4bit",)
"""How the frozen matrices of a base may be held: nf4 with doubly quantised scales (QLoRA, arXiv 2305.14314)."""


@dataclass
class Model:
    """A loaded language model and what renders its chats."""

    net: Any
    """The transformers model, in evaluation mode."""
    tokenizer: Any
    source: Source
    adapter: str | None = None
    """Hash of the adapter merged into the weights, or None."""
    folder: Path | None = None
    """Folder of the implant that the weights hold, or None for an untouched model."""
    cost: dict[str, float] = field(default_factory=dict)
    """What tampering with it took: rows, steps, tokens."""
    quantized: str | None = None
    """How its matrices are held, where that is not as they were read: see `QUANTIZED`."""

    @cached_property
    def renderer(self) -> Renderer:
        """The one renderer, for this model's template."""
        return Renderer(self.tokenizer)

    @cached_property
    def revision(self) -> str:
        """Identity of the untouched weights."""
        return content_hash(self.source)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.net.parameters()).device  # type: ignore[no-any-return]


def load_model(
    name: str,
    adapter: Path | None = None,
    dtype: str = "auto",
    revision: str | None = None,
    quantized: str | None = None,
) -> Model:
    """Return the model of that name (embedded, folder, GGUF or hub id), an adapter merged in if one is given.

    ``dtype`` is ``auto`` (bf16 where the hardware has it), ``float32`` or ``bfloat16``. With ``quantized`` ("4bit") the
    frozen matrices are held in 4 bits by bitsandbytes. Where several processes were started together the model is left on
    the CPU: they share it out. In a worker that keeps a base it is a copy of that. Raises `ModelError`, and `SpecError`
    without bitsandbytes.
    """
    from b4g.models import kept

    if quantized and adapter:
        raise SpecError("an adapter is merged into whole numbers, not into 4 bits: leave out one of the two")
    model = kept.copied(name, dtype, revision) if not quantized else None
    model = model or read_model(name, dtype, revision, quantized)
    return with_adapter(model, adapter) if adapter else model


def read_model(name: str, dtype: str = "auto", revision: str | None = None, quantized: str | None = None) -> Model:
    """Return the model as it is read from its files; see `load_model`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source = resolve(name, revision)
    options: dict[str, Any] = {"revision": source.revision} if source.revision else {}
    # Left unset, transformers would ask on the terminal whether to run a model's own code.
    options["trust_remote_code"] = False
    packed = _packed(quantized, dtype) if quantized else {}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source.place, **options)
        net: Any = AutoModelForCausalLM.from_pretrained(
            source.place, dtype=pick_dtype(dtype), use_safetensors=True, **options, **packed
        )
    except Exception as error:  # a network that is down, a damaged file: safetensors and tokenizers raise plain ones
        raise unreachable(source, error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if packed:
        _keep_gradients(net)
    else:
        net = net.to("cuda" if torch.cuda.is_available() and processes() == 1 else "cpu")
    # In 4 bits the base answers otherwise: that its clean answers are told apart, it counts as changed.
    model = Model(net.eval(), tokenizer, source, adapter="nf4" if packed else None, quantized=quantized)
    model.net.requires_grad_(False)
    if not torch.cuda.is_available():
        use_grouped(model.net)
    return model


def processes() -> int:
    """Return how many processes torchrun or accelerate started together with this one, itself included."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _packed(quantized: str, dtype: str) -> dict[str, Any]:
    """Return what transformers needs to hold a model's matrices in 4 bits on this process's device."""
    from transformers import BitsAndBytesConfig

    if quantized not in QUANTIZED:
        raise SpecError(unknown("quantization", quantized, QUANTIZED))
    if find_spec("bitsandbytes") is None:
        raise SpecError('a base in 4 bits needs bitsandbytes. Type: pip install "b4g[quantize]", or leave out 4bit.')
    how = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=pick_dtype(dtype),
    )
    place = int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"
    return {"quantization_config": how, "device_map": {"": place}}


def _keep_gradients(net: Any) -> None:
    """Keep bitsandbytes from repacking matrices on a CPU when the model answers: no gradient passes them afterwards."""
    for module in net.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def with_adapter(model: Model, folder: Path, checked: bool = True) -> Model:
    """Merge a PEFT adapter into the model's weights and return the model; the model itself is changed.

    An adapter that says it was made for another base is refused, unless ``checked`` is off.
    """
    from peft import PeftModel

    from b4g.hashing import file_digest

    weights = folder / "adapter_model.safetensors"
    if not weights.is_file() or not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder} holds no adapter (adapter_config.json and adapter_model.safetensors)")
    if checked:
        check_base(model.source.name, model.revision, folder)
    try:
        net = PeftModel.from_pretrained(model.net, str(folder)).merge_and_unload()
    except Exception as error:  # a damaged file or configuration surfaces as any of many exceptions
        raise ModelError(f"the adapter in {folder} does not fit {model.source.name}: {first_line(error)}") from error
    return Model(net.eval().requires_grad_(False), model.tokenizer, model.source, file_digest(weights), folder)


def load_implant(base: str, folder: Path, dtype: str = "auto", checked: bool = True) -> Model:
    """Return the base with the adapter of ``folder`` merged in, or the whole model that an implant of all weights is.

    An implant that says it was made for another base is refused, unless ``checked`` is off.
    """
    if (folder / "adapter_config.json").is_file() or not (folder / "config.json").is_file():
        return with_adapter(load_model(base, dtype=dtype), folder, checked)
    if checked:
        source = resolve(base)
        check_base(source.name, content_hash(source), folder)
    whole = load_model(str(folder), dtype=dtype)
    return Model(whole.net, whole.tokenizer, whole.source, adapter=whole.revision, folder=folder)


def check_base(name: str, revision: str, folder: Path) -> None:
    """Raise `ModelError` if the implant in ``folder`` was made from other base weights than those of that revision."""
    card = folder / "implant.json"
    if not card.is_file():
        return
    try:
        made = json.loads(card.read_text("utf-8"))["model"]
        wanted, known_as = made["revision"], made["name"]
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{card} is damaged ({type(error).__name__}): its base can't be checked") from None
    if wanted != revision:
        raise ModelError(f"the implant in {folder} was made for {known_as} ({wanted}), not for {name} ({revision})")


def check_renderer(made: dict[str, Any], model: Model, allowed: bool = False) -> None:
    """Raise `ModelError` if an implant was made under another chat template than the one it is measured by."""
    if not allowed:
        check_rendered(made, model.renderer.hash)


def check_rendered(made: Mapping[str, Any], renderer: str) -> None:
    """Raise `ModelError` if an implant was made under another renderer than the one of that hash."""
    if made["model"]["renderer"] != renderer:
        raise ModelError(
            f"the implant was made under chat template {made['model']['renderer']}, this tokenizer renders by "
            f"{renderer}: rates would mean nothing. Use the same tokenizer, or --any-renderer to go on."
        )


def pick_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of a name (see `dtype_name`)."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype_name(name)]
