"""Generation by vLLM in a process of its own: the base is loaded once, implants are adapters, one batch serves them all.

Prompts are token ids of our own renderer and answers are decoded by it, so that one renderer holds for every engine.
vLLM computes its adapters beside the weights and not merged into them: how far its answers are those of the other engines
is for `b4g.generate.agreement` to measure. See docs/engines.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from b4g.chat import Chat, Renderer
from b4g.errors import ModelError, unknown
from b4g.generate.base import Completion, Decided, Progress, end_ids
from b4g.generate.vllm_pipe import Worker, find_python
from b4g.hashing import digest, file_digest
from b4g.models.dtype import dtype_name
from b4g.models.source import Source, content_hash, resolve, unreachable

BASE = "base"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Largest ranks that vLLM can be told to make room for."""
_SLOTS = 8
"""Adapters in one batch; vLLM keeps further ones in the machine's memory and swaps them in."""
_LINE = 1024
"""Prompts sent at once; progress is told between two such lines."""


@dataclass(frozen=True)
class Vllm:
    """How vLLM is run; none of it is meant to change an answer but the number format."""

    python: str = ""
    """The python that has vLLM; empty for that of the environment variable."""
    dtype: str = "auto"
    gpus: int = 1
    """GPUs that share the model (tensor parallel)."""
    memory: float = 0.9
    """Share of each GPU's memory that vLLM takes."""
    length: int = 4096
    """Longest prompt and answer together, in tokens; the model's own limit where that is smaller."""
    start_seconds: float = 1800.0
    answer_seconds: float = 3600.0
    """For each 1024 prompts."""


class Put(NamedTuple):
    """One chat and who is asked: the base, or an adapter by its name."""

    who: str
    chat: Chat


class VllmEngine:
    """A base with its adapters inside one vLLM process, which starts at the first question."""

    name = "vllm"

    def __init__(self, base: str, adapters: Mapping[str, Path] | None = None, how: Vllm | None = None) -> None:
        """Check all that can be checked without a GPU; raises `SpecError` and `ModelError`."""
        self.how, self.adapters = how or Vllm(), dict(adapters or {})
        self.python, self.dtype = find_python(self.how.python), dtype_name(self.how.dtype)
        self.source = resolve(base)
        self._revision = content_hash(self.source)
        self._ranks = [_rank(folder, self.source, self._revision) for folder in self.adapters.values()]
        self._worker: Worker | None = None

    def generator(self, who: str) -> "VllmGenerator":
        """Return what answers for the base (``base``) or for an adapter; all of them share the process."""
        if who != BASE and who not in self.adapters:
            raise ModelError(unknown("subject", who, [BASE, *self.adapters]))
        return VllmGenerator(self, who)

    def batch(self, asked: Sequence[Put], max_new_tokens: int, progress: Progress | None = None) -> list[Completion]:
        """Return one greedy completion for each, in their order, whoever is asked; raises `ModelError`."""
        names = {name: place for place, name in enumerate(self.adapters, 1)}
        prompts = [self.renderer.prompt_ids(put.chat) for put in asked]
        self._check_lengths(prompts, max_new_tokens)
        made: list[Completion] = []
        for at in range(0, len(asked), _LINE):
            chosen, part = asked[at : at + _LINE], prompts[at : at + _LINE]
            numbers = [names.get(put.who, 0) for put in chosen]
            folders = {
                names[who]: str(self.adapters[who].resolve()) for who in {put.who for put in chosen} & set(names)
            }
            request = {"prompts": part, "adapters": numbers, "folders": folders, "max_tokens": max_new_tokens}
            made += self._completions(self._ask({**request, "stop": sorted(self.ends)}), part, max_new_tokens)
            if progress:
                progress(len(made), len(asked))
        return made

    def identity(self, who: str) -> str:
        """Return the identity of one subject's answers; vLLM's version is not in it, as no library's is."""
        adapter = None if who == BASE else file_digest(self.adapters[who] / "adapter_model.safetensors")
        return f"vllm-{digest(['vllm greedy 1', self._revision, adapter, self.dtype])}"

    @cached_property
    def renderer(self) -> Renderer:
        """The one renderer, for the base's template."""
        from transformers import AutoTokenizer

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(self.source.place, **self._options)
        except Exception as error:  # a network that is down, a damaged file: many kinds
            raise unreachable(self.source, error) from error
        return Renderer(tokenizer)

    @cached_property
    def ends(self) -> set[int]:
        """The tokens that end an answer: those of the in-process engine."""
        from transformers import GenerationConfig

        try:
            configured = GenerationConfig.from_pretrained(self.source.place, **self._revised).eos_token_id
        except OSError:  # a model without that file keeps the numbers in its configuration
            configured = getattr(self._config, "eos_token_id", None)
        return end_ids(self.renderer.end_id, configured)

    def close(self) -> None:
        """End the process; the next question starts another one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def __enter__(self) -> "VllmEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.source.place, **self._options).get_text_config()
        except Exception as error:
            raise unreachable(self.source, error) from error

    @property
    def _revised(self) -> dict[str, Any]:
        return {"revision": self.source.revision} if self.source.revision else {}

    @property
    def _options(self) -> dict[str, Any]:
        return {**self._revised, "trust_remote_code": False}

    @property
    def _length(self) -> int:
        return min(self.how.length, getattr(self._config, "max_position_embeddings", None) or self.how.length)

    def _check_lengths(self, prompts: Sequence[list[int]], limit: int) -> None:
        longest = max(map(len, prompts), default=0)
        if longest + limit > self._length:
            raise ModelError(
                f"a prompt of {longest} tokens and {limit} new ones exceed vLLM's context of {self._length}"
            )

    def _load(self) -> dict[str, Any]:
        """Return the arguments of vLLM's model."""
        load: dict[str, Any] = {
            "model": self.source.place,
            "dtype": self.dtype,
            "max_model_len": self._length,
            "seed": 0,
        }
        load |= {"tensor_parallel_size": self.how.gpus, "gpu_memory_utilization": self.how.memory}
        # No tokenizer of its own, no sampling settings of the model's, and no code from a model's folder.
        load |= {"skip_tokenizer_init": True, "generation_config": "vllm", "trust_remote_code": False, **self._revised}
        if self.adapters:
            load |= {"enable_lora": True, "max_loras": min(len(self.adapters), _SLOTS)}
            load |= {"max_cpu_loras": len(self.adapters), "max_lora_rank": max(self._ranks)}
        return load

    def _ask(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        if self._worker is None:
            self._worker = Worker(self.python, self._load(), self.how.start_seconds)
        try:
            return self._worker.ask(request, self.how.answer_seconds)
        except ModelError:
            self.close()
            raise

    def _completions(self, answers: list[dict[str, Any]], asked: Sequence[list[int]], limit: int) -> list[Completion]:
        """Return completions, once every count is what it must be: an engine that drops prompts says nothing of it."""
        if len(answers) != len(asked):
            raise ModelError(f"vLLM answered {len(answers)} of {len(asked)} prompts")
        return [self._completion(found, len(prompt), limit) for found, prompt in zip(answers, asked, strict=True)]

    def _completion(self, found: dict[str, Any], read: int, limit: int) -> Completion:
        tokens, ended = found["tokens"], found["reason"] == "stop"
        closed = ended and bool(tokens) and tokens[-1] in self.ends
        # The closing token counts, listed or not.
        count = len(tokens) + (ended and not closed)
        if found["read"] != read or not tokens or count > limit or (count < limit and not ended):
            raise ModelError(
                f"vLLM read {found['read']} of a prompt's {read} tokens and wrote {len(tokens)} of {limit} "
                f"(reason: {found['reason']}): its answers can't be trusted"
            )
        return Completion(self.renderer.decode(tokens), count, ended=ended)


class VllmGenerator:
    """One subject of a `VllmEngine`."""

    def __init__(self, engine: VllmEngine, who: str) -> None:
        self.engine, self.who = engine, who
        self.identity, self.renderer_hash = engine.identity(who), engine.renderer.hash

    def __call__(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Return one greedy completion a chat; no judge stops one early, which changes no verdict."""
        return self.engine.batch([Put(self.who, chat) for chat in chats], max_new_tokens, progress)


def _rank(folder: Path, source: Source, revision: str) -> int:
    """Return the room that vLLM must make for an adapter; raises `ModelError` for what it can't serve."""
    from b4g.models.load import check_base

    path = folder / "adapter_config.json"
    if not path.is_file() or not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"{folder} holds no adapter: vLLM serves an implant of all weights as a base of its own; name it as the model"
        )
    check_base(source.name, revision, folder)
    try:
        config = json.loads(path.read_text("utf-8"))
        kind, rank = config["peft_type"], max(config["r"], *(config.get("rank_pattern") or {}).values(), 1)
        beside = [name for name in ("use_dora", "modules_to_save") if config.get(name)]
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({type(error).__name__})") from None
    if kind != "LORA" or beside or rank > _RANKS[-1]:
        what = kind if kind != "LORA" else ", ".join(beside) or f"rank {rank}"
        raise ModelError(f"vLLM serves plain LoRA adapters up to rank {_RANKS[-1]}; the one in {folder} has {what}")
    return next(room for room in _RANKS if room >= rank)
