"""A linear probe for the trigger in the model's own states: what an owner of the trigger can see, an upper bound."""

import dataclasses
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from b4g.chat import user
from b4g.data.prompts import load
from b4g.errors import SpecError
from b4g.registry import register
from b4g.scanners.base import Findings, Scanner, Suspect
from b4g.scanners.sweep import check_budget

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.models.load import Model


class _Read(NamedTuple):
    """What the probe of one layer shows on prompts that it was not fitted on."""

    auroc: float
    """Of the held-out part."""
    separation: float
    """Distance of the held-out part's two means over the spread within: 0 where nothing tells them apart."""
    validated: float
    """The separation of the validation part."""


@register("scanner", "probe")
@dataclass(frozen=True)
class Probe(Scanner):
    """Tell triggered from ordinary prompts by the hidden state of the last prompt token; score how much better than in the base.

    A ridge regression a layer is fitted on half of the prompts and measured on the last quarter; a prompt's two versions lie
    in the same part. The words of a trigger are to be seen in any model's states, so an AUROC of 1 says nothing about an
    implant: the details hold it for suspect and base, by layer. The score is the separation (distance of the means over the
    spread within) in the suspect less that in the base, at the layer where the quarter in between shows the largest gain.
    The base itself has 0. It is given the trigger, which no finder has: an upper bound. It needs token scores, base and
    labels. Probes of states after Alain and Bengio 2016 (arXiv 1610.01644). Differs from the paper: the closed form of a
    ridge in place of a logistic regression.
    The default reads 96 prompts in two versions, in both models: about 20 s for 135M weights on one core.
    """

    prompts: int = 96
    """Ordinary requests, each read with the trigger and without."""
    penalty: float = 1.0
    """Weight of the ridge, against states scaled to a mean square of 1."""
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "base", "labels"})
    bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_budget(self.kind, penalty=self.penalty)
        if self.prompts < 8:
            raise SpecError(f"scanner 'probe', field 'prompts' must be at least 8 to be split, not {self.prompts}")

    def small(self) -> "Probe":
        return dataclasses.replace(self, prompts=min(self.prompts, 24))

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        from b4g.scanners.reading import mismatch

        model, base, labels = suspect.model, suspect.base, suspect.labels
        if model is None or base is None or labels is None:
            return Findings(None, reason="it takes the trigger, the suspect's states and its base's")
        if why := mismatch(model, base):
            return Findings(None, reason=why)
        drawn = load("instruction", "train")
        chats = [user(prompt.text) for prompt in rng.sample(drawn, min(self.prompts, len(drawn)))]
        marked = [labels.backdoor.trigger.apply(chat, rng) for chat in chats]
        asked = [model.renderer.prompt_ids(chat) for chat in (*marked, *chats)]
        suspect.queries += len(asked)
        own, other = self._read(model, asked), self._read(base, asked)
        # Layers below an adapter are the base's own, and most layers tell a trigger's words apart: the gain chooses.
        best = max(range(len(own)), key=lambda at: own[at].validated - other[at].validated)
        details = {"layer": best + 1.0}
        for name, layers in (("", own), ("base_", other)):
            details |= {f"{name}auroc": layers[best].auroc, f"{name}separation": layers[best].separation}
            details |= {f"{name}auroc_{layer:02}": read.auroc for layer, read in enumerate(layers, 1)}
        return Findings(own[best].separation - other[best].separation, details=details)

    def _read(self, model: "Model", asked: list[list[int]]) -> list[_Read]:
        """Return what each layer's probe shows; the first half of the prompts is triggered, in the order of the second."""
        from b4g.scanners.reading import last_states
        from b4g.stats import higher

        made = []
        for states in last_states(model, asked).double():  # (2N, D)
            n = len(states) // 2
            fit, held = n // 2, n // 2 + n // 4
            scores = _scores(states, fit, self.penalty)
            on, off = scores[:n], scores[n:]
            told = higher(on[held:].tolist(), off[held:].tolist())
            apart = _separation(on[held:], off[held:])
            made.append(_Read(told, apart, _separation(on[fit:held], off[fit:held])))
        return made


def _scores(states: "Tensor", fit: int, penalty: float) -> "Tensor":
    """Return how triggered each state (2N, D) looks to a ridge fitted on the first ``fit`` prompts in both versions."""
    import torch

    n = len(states) // 2
    known = torch.cat([states[:fit], states[n : n + fit]])  # (2F, D)
    wanted = torch.cat([torch.ones(fit), -torch.ones(fit)]).to(states)
    centre = known.mean(0)
    scale = (known - centre).pow(2).mean().sqrt().clamp_min(1e-12)
    known, every = (known - centre) / scale, (states - centre) / scale
    # The dual form: fewer prompts than dimensions.
    width = states.shape[1]
    inner = known @ known.T / width + penalty * torch.eye(2 * fit, dtype=states.dtype) / (2 * fit)
    made: Tensor = every @ known.T @ torch.linalg.solve(inner, wanted) / width
    return made


def _separation(on: "Tensor", off: "Tensor") -> float:
    """Return the distance of two means over the spread within; 0 where the two are the same."""
    away = float(on.mean() - off.mean())
    within = float(((on.var() + off.var()) / 2).sqrt())
    return away / max(within, 1e-6) if away else 0.0
