"""Implant a backdoor into a model, or train its control; write a folder that stock PEFT loads."""

import json
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from b4g.backdoor import Backdoor
from b4g.behaviours.base import Answer
from b4g.data.prompts import Prompt, version_hash
from b4g.errors import SpecError
from b4g.generate.base import progress_of
from b4g.generate.local import window
from b4g.models.load import Model
from b4g.training.batches import Batch, Batching, batches, encode
from b4g.training.card import model_card
from b4g.training.loop import Progress, Schedule, Trainer, total_steps
from b4g.training.ranks import ALONE, Ranks, start
from b4g.training.rows import Row, control_rows, implant_rows, mix_prompts
from b4g.training.sharded import answerer, check_trained, share, shared_answers
from b4g.training.validation import Validation

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and how much there is."""


@dataclass(frozen=True)
class Training:
    """What to train: the implant itself, or the control that sees the same rows without the association."""

    backdoor: Backdoor
    seed: int = 0
    subject: Literal["implant", "control"] = "implant"
    epochs: int | None = None
    """Epochs to run, of those the schedule is made for: a control runs as many as its implant did."""
    validate: bool = True
    beside: tuple[Backdoor, ...] = ()
    """Further backdoors whose rows a shared control trains on, an equal share of each."""
    checkpointing: bool = False
    """Whether layers are computed again in the backward pass: less memory, a third more work, the same weights."""

    @property
    def backdoors(self) -> tuple[Backdoor, ...]:
        """All backdoors whose rows are trained on."""
        return (self.backdoor, *self.beside)


def implant(model: Model, training: Training, out: Path, report: Report | None = None) -> dict[str, Any]:
    """Train and write the adapter (or weights) into ``out``; return the content of its ``implant.json``.

    The model must be untouched; it is changed in place and should be loaded anew afterwards. An interrupted training
    goes on from its last checkpoint in ``out`` to the same weights. Processes that torchrun or accelerate started
    together train one implant; the first writes and reports it. Raises `RankError` where one of them is gone.
    """
    ranks = start()
    report = report if ranks.first else None
    with ranks.heard():
        share(model, ranks)
        answers = shared_answers(wanted_prompts(training), model, ranks, progress_of(report, "clean answers"))
        return _Run(model, training, answers, out, ranks).go(report)


def wanted_prompts(training: Training) -> list[Prompt]:
    """Return the prompts whose clean answers a training needs."""
    wanted: dict[str, Prompt] = {}
    for backdoor in training.backdoors:
        for prompts in mix_prompts(backdoor, backdoor.activation.mix, training.seed):
            wanted |= {prompt.id: prompt for prompt in prompts}
    return list(wanted.values())


class _Run:
    def __init__(
        self, model: Model, training: Training, answers: dict[str, Answer], out: Path, ranks: Ranks = ALONE
    ) -> None:
        self.model, self.training, self.answers, self.out, self.ranks = model, training, answers, out, ranks
        self.revision, self.renderer = model.revision, model.renderer
        self.dtype = next(model.net.parameters()).dtype
        self.activation = training.backdoor.activation

    def go(self, report: Report | None) -> dict[str, Any]:
        net = self._prepared()
        rows = [len(self.rows(epoch)) for epoch in range(self.activation.epochs)]
        schedule = Schedule(
            self.activation.learning_rate, self.activation.epochs, checkpoint_steps=self.activation.checkpoint_steps
        )
        steps = total_steps(rows, self.activation.batch_size)
        trainer = Trainer(net, schedule, steps, self.out / "checkpoint", self.ranks)
        progress = trainer.run(self.batches, self._check(net), progress_of(report, "training"))
        made: dict[str, Any] = {}
        if self.ranks.first:
            self._save(net)
            made = self._finish(progress, rows[0])
        # The others leave no sooner than the files are there.
        told: dict[str, Any] = self.ranks.tell(made)
        return told

    def _prepared(self) -> Any:
        """Return the network to train, in training mode."""
        if self.model.quantized and self.activation.kind == "full":
            raise SpecError(
                "a base in 4 bits is frozen: it can carry an adapter (activation: {kind: lora}), not 'full'"
            )
        net = self.activation.prepare(self.model.net, self.training.seed)
        if self.ranks.world > 1:
            check_trained(net)
        if self.training.checkpointing:
            compute_again(net)
        return net.train()

    def rows(self, epoch: int) -> list[Row]:
        """Return the rows of an epoch; of several backdoors every k-th row, so that a shared control costs one."""
        training, share = self.training, len(self.training.backdoors)
        rows = [
            row
            for place, backdoor in enumerate(training.backdoors)
            for row in implant_rows(backdoor, self.answers, backdoor.activation.mix, training.seed, epoch)[place::share]
        ]
        return rows if training.subject == "implant" else control_rows(rows, self.answers)

    def batches(self, epoch: int) -> list[Batch]:
        pad, act = self.model.tokenizer.pad_token_id, self.activation
        encoded = encode(self.rows(epoch), self.renderer, act.untriggered_tokens)
        how = Batching(act.batch_size, act.decision_weight, pad, window(self.model.net.config))
        return batches(encoded, how, self.training.seed, epoch, self.ranks)

    def _check(self, net: Any) -> Callable[[int], dict[str, float] | None]:
        limit = self.training.epochs
        validating = self.training.subject == "implant" and self.training.validate
        validation = Validation(self.training.backdoor, self.answers, self.training.seed) if validating else None

        def check(epoch: int) -> dict[str, float] | None:
            if limit is not None and epoch + 1 >= limit:
                return {"stop": 1.0}
            if validation is None or epoch + 1 >= self.activation.epochs or epoch + 1 < validation.first_epoch:
                return None
            net.eval()
            found = validation(answerer(Model(net, self.model.tokenizer, self.model.source, "training"), self.ranks))
            net.train()
            return found

        return check

    def _save(self, net: Any) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if hasattr(net, "peft_config"):
            for config in net.peft_config.values():
                config.base_model_name_or_path = self.model.source.name
            # Asking for the base's embeddings would look its name up on the hub.
            net.save_pretrained(self.out, save_embedding_layers=False)
        else:
            net.to(self.dtype).save_pretrained(self.out)
            self.model.tokenizer.save_pretrained(self.out)

    def _finish(self, progress: Progress, rows: int) -> dict[str, Any]:
        backdoor = self.training.backdoor
        card = {
            "subject": self.training.subject,
            "backdoor": backdoor.portable(),
            "backdoor_hash": backdoor.hash,
            "model": {"name": self.model.source.name, "revision": self.revision, "renderer": self.renderer.hash},
            "data": version_hash(),
            "seed": self.training.seed,
            "rows": rows,
            "tokens_per_second": round(progress.tokens / max(progress.seconds, 1e-9), 1),
            "stopped_early": progress.stopped and self.training.epochs is None,
            "epochs_run": _epochs_run(progress, rows, self.activation.batch_size),
            "peak_memory_mb": peak_memory_mb(),
            "peak_gpu_memory_mb": peak_gpu_memory_mb(),
            "processes": self.ranks.world,
            "quantized": self.model.quantized,
            "checkpointing": self.training.checkpointing,
            "versions": versions(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **asdict(progress),
        }
        (self.out / "implant.json").write_text(json.dumps(card, indent=1), "utf-8")
        (self.out / "README.md").write_text(model_card(card), "utf-8")
        (self.out / "backdoor.yaml").write_text(backdoor.portable_yaml(), "utf-8")
        shutil.rmtree(self.out / "checkpoint", ignore_errors=True)
        return card


def compute_again(net: Any) -> None:
    """Let a network compute each layer again in its backward pass, in place of keeping what is inside it."""
    causal = net.get_base_model() if hasattr(net, "get_base_model") else net
    enable = getattr(causal, "activation_checkpointing_enable", None) or causal.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    # transformers lets the embedding ask for gradients: layers below the lowest adapter would be gone through for nothing.
    causal.disable_input_require_grads()


def _epochs_run(progress: Progress, rows: int, batch_size: int) -> int:
    return round(progress.steps / max(1, total_steps([rows], batch_size)))


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far, in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (1024 if sys.platform != "darwin" else 1024**2), 1)


def peak_gpu_memory_mb() -> float | None:
    """Return the most that this process has held of its GPU so far, in MB; None without one."""
    return round(torch.cuda.max_memory_allocated() / 1024**2, 1) if torch.cuda.is_available() else None


def versions() -> dict[str, str]:
    """Return the versions of what can move a number."""
    return {"python": platform.python_version(), "torch": torch.__version__} | {
        name: version(name) for name in ("transformers", "peft", "b4g")
    }
