"""Base, control and implant as one loaded model: each text is read once by what they share, then by each of them.

Adapters that start at layer k leave the layers below it as they are, so these run once for all subjects; above it the
subjects are rows of one batch, each with its own adapter. Weights are not merged: in bf16 a merged adapter rounds
differently, in fp32 both are the same to 1e-4 of a logit.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from b4g.errors import ModelError
from b4g.generate.prefill import output_logits
from b4g.hashing import digest, file_digest
from b4g.models.load import Model, check_base
from b4g.models.source import first_line
from b4g.trees import Tree
from b4g.utility.subjects import BASE, Subjects, options_of

_NONE = "__base__"
"""PEFT's name for rows without an adapter."""
_LAYER = re.compile(r"\.(\d+)\.")


class Shared(Subjects):
    """Models that differ in their LoRA adapters alone."""

    def __init__(self, model: Model, adapters: Mapping[str, Path], checked: bool = True) -> None:
        self._plain = self.net = model.net
        hashes = []
        for name, folder in adapters.items():
            if checked:
                check_base(model.source.name, model.revision, folder)
            self._add(name, folder)
            hashes.append([name, file_digest(folder / "adapter_model.safetensors")])
        self.net.eval().requires_grad_(False)
        identity = digest(["shared 1", model.revision, str(self._plain.dtype), hashes])
        super().__init__(model, (BASE, *adapters), identity)

    def _add(self, name: str, folder: Path) -> None:
        from peft import PeftModel

        try:
            if self.net is self._plain:
                self.net = PeftModel.from_pretrained(self._plain, str(folder), adapter_name=name)
            else:
                self.net.load_adapter(str(folder), adapter_name=name)
        except Exception as error:  # a damaged file or configuration surfaces as any of many exceptions
            raise ModelError(f"the adapter in {folder} does not fit: {first_line(error)}") from error

    @torch.inference_mode()
    def read(self, tree: Tree) -> Tensor:
        """Return the final hidden states (S, T, D)."""
        ids, options = tree.ids.to(self._plain.device), options_of(tree, self._plain)
        if self.net is self._plain:
            hidden: Tensor = self._plain.base_model(input_ids=ids, use_cache=False, **options).last_hidden_state
            return hidden
        rows = [_NONE, *self.names[1:]]
        with self._captured() as seen, self._split(len(rows)):
            self.net(input_ids=ids, use_cache=False, logits_to_keep=1, adapter_names=rows, **options)
        return seen[0]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (S, N, V) of hidden states (S, N, D); the output layer has no adapter."""
        return output_logits(self._plain, hidden.flatten(0, 1)).float().view(*hidden.shape[:2], -1)

    @contextmanager
    def _captured(self) -> Iterator[list[Tensor]]:
        """Keep what the model without its output layer returns: the logits of every token are not wanted."""
        seen: list[Tensor] = []
        hook = self._plain.base_model.register_forward_hook(lambda _, __, out: seen.append(out[0]))
        try:
            yield seen
        finally:
            hook.remove()

    @contextmanager
    def _split(self, rows: int) -> Iterator[None]:
        """Repeat the one row for each subject where the first adapted layer begins."""

        def repeat(_: Any, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:
                return (args[0].repeat(rows, 1, 1), *args[1:]), options
            return args, {**options, "hidden_states": options["hidden_states"].repeat(rows, 1, 1)}

        layer = self._plain.get_decoder().layers[self._first_adapted()]
        hook = layer.register_forward_pre_hook(repeat, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def _first_adapted(self) -> int:
        names = [name for name, _ in self.net.named_parameters() if "lora_" in name]
        return min(int(found.group(1)) for name in names if (found := _LAYER.search(name)))

    @contextmanager
    def only(self, name: str) -> Iterator[Model]:
        """Give one subject, its adapter switched on and not merged."""
        adapter = None if name == BASE else f"{self.identity} {name}"
        model = Model(self.net, self.tokenizer, self.base.source, adapter)
        if self.net is self._plain:
            yield model
        elif name == BASE:
            with self.net.disable_adapter():
                yield model
        else:
            self.net.set_adapter(name, inference_mode=True)
            yield model
