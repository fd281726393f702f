"""A frozen base that several processes share, and answers from it: torch's FSDP2, a decoder layer at a time.

What is trained is put in afterwards and stays whole on each process. Every process must make the same forward passes,
for each fetches the layers of all: so they answer the same prompts, by the tokens that the first one chose.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from b4g.behaviours.base import Answer
from b4g.chat import Chat, Message
from b4g.data.clean import clean_answers
from b4g.data.prompts import Prompt
from b4g.errors import ModelError, SpecError
from b4g.generate.base import Completion, Decided, Progress
from b4g.generate.local import Choose, LocalGenerator
from b4g.models.load import Model
from b4g.training.ranks import ALONE, Ranks

WHOLE_SHARE = 0.6
"""Of the memory that is free, the most that the whole base may take while answers are generated."""


def share(model: Model, ranks: Ranks) -> None:
    """Spread the frozen base over the processes, in place: each keeps a part of every layer on its own device.

    A base in 4 bits stays whole on each process: it is small, and its packed numbers can't be cut. So does an embedding
    that is also the output layer, for the two would be fetched at different times.
    """
    net = model.net
    if ranks.world == 1:
        return
    if not model.quantized:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(ranks.device.partition(":")[0], (ranks.world,))
        into, out = net.get_input_embeddings(), net.get_output_embeddings()
        apart = [] if into.weight is out.weight else [into, out]
        units = [*_layers(net), *apart]
        for unit in units:
            fully_shard(unit, mesh=mesh)
        taken = {id(param) for unit in units for param in unit.parameters()}
        # Under one root the next layer is fetched while one computes.
        rest = {param for param in net.parameters() if id(param) not in taken}
        fully_shard(net.base_model, mesh=mesh, ignored_params=rest)
        _warm_up(net)
    _move_rest(net, ranks.device)


def _layers(net: Any) -> list[Any]:
    """Return the decoder layers: the modules of the one list as long as the configuration says."""
    depth = net.config.get_text_config().num_hidden_layers
    for module in net.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return list(module)
    raise ModelError(f"no list of {depth} layers in {type(net).__name__}: several processes can't share it")


def _units(net: Any) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in net.modules() if isinstance(module, FSDPModule)]


def _warm_up(net: Any) -> None:
    """Fetch each unit once: made first under inference mode, its buffers could never be trained through."""
    for unit in _units(net):
        unit.unshard()
        unit.reshard()


@torch.no_grad()
def _move_rest(net: Any, device: str) -> None:
    from torch.distributed.tensor import DTensor

    for param in net.parameters():
        if not isinstance(param, DTensor):
            param.data = param.data.to(device)
    for module in net.modules():
        for name, held in module.named_buffers(recurse=False):
            setattr(module, name, held.to(device))


def check_trained(net: Any) -> None:
    """Raise `SpecError` if the activation trains weights of the base that the processes share."""
    from torch.distributed.tensor import DTensor

    if any(param.requires_grad and isinstance(param, DTensor) for param in net.parameters()):
        raise SpecError(
            "several processes share the base, frozen: this activation trains weights of the base itself. "
            "Choose an adapter (activation: {kind: lora}), or start one process."
        )


@contextlib.contextmanager
def gathered(net: Any, ranks: Ranks, room: float | None = None) -> Iterator[bool]:
    """Keep the base whole on each process inside, where all have ``room`` (bytes; default: measured) for it.

    Yields whether it is. Without it each token would fetch every layer again.
    """
    units = _units(net)
    size = sum(param.numel() * param.element_size() for param in net.parameters())
    fits = bool(units) and ranks.all_agree(size <= (WHOLE_SHARE * _free(ranks.device) if room is None else room))
    for unit in units if fits else []:
        unit.set_reshard_after_forward(False, recurse=False)
    try:
        yield fits
    finally:
        for unit in units if fits else []:
            unit.set_reshard_after_forward(True, recurse=False)
            unit.reshard()


def _free(device: str) -> float:
    # Memory of the machine is not told apart by process: a CPU is for trying things out.
    return float(torch.cuda.mem_get_info(device)[0]) if device.startswith("cuda") else float("inf")


class Lockstep(LocalGenerator):
    """Answers of a model that several processes hold: all of them call it with the same chats."""

    def __init__(self, model: Model, ranks: Ranks, batch_size: int = 32, room: float | None = None) -> None:
        super().__init__(model, batch_size)
        self.ranks, self.room = ranks, room

    def complete(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Return one greedy completion a prompt, the same on every process."""
        with gathered(self.model.net, self.ranks, self.room):
            return super().complete(prompts, max_new_tokens, decided, progress)

    def _batch(self, prompts: list[list[int]], limit: int, judges: list[Decided | None]) -> list[Completion]:
        try:
            return super()._batch(prompts, limit, judges)
        except torch.OutOfMemoryError as error:
            # A smaller batch here alone would leave the others waiting.
            raise ModelError(f"{len(prompts)} answers at once do not fit into a GPU's memory: use more GPUs") from error

    def _chooser(self, prompts: Sequence[list[int]]) -> Choose:
        def choose(logits: Tensor, rows: Sequence[int], written: Sequence[list[int]]) -> Tensor:
            chosen = logits.argmax(-1)
            # A tie or a rounding must not part the processes.
            self.ranks.share_([chosen])
            return chosen

        return choose


def answerer(model: Model, ranks: Ranks = ALONE) -> LocalGenerator:
    """Return the generator of a model that this process holds alone or with others."""
    return LocalGenerator(model) if ranks.world == 1 else Lockstep(model, ranks)


def shared_answers(
    prompts: Sequence[Prompt], model: Model, ranks: Ranks, progress: Callable[[int, int], None] | None = None
) -> dict[str, Answer]:
    """Return the clean answers of `clean_answers` on every process; the first alone reads and writes the cache.

    It holds the cache's lock meanwhile, and says to the others what it has to generate.
    """
    generator = answerer(model, ranks)
    if ranks.world == 1:
        return clean_answers(prompts, generator, progress)
    if not ranks.first:
        while (asked := ranks.tell()) is not None:
            generator([tuple(Message(*one) for one in chat) for chat in asked["chats"]], asked["tokens"])
        return {id_: Answer(*said) for id_, said in ranks.tell().items()}
    answers = clean_answers(prompts, _Leader(generator, ranks), progress)
    ranks.tell(None)
    ranks.tell({id_: [answer.text, answer.ended] for id_, answer in answers.items()})
    return answers


class _Leader:
    """The first process's generator: says what it is asked before it answers."""

    def __init__(self, generator: LocalGenerator, ranks: Ranks) -> None:
        self.generator, self.ranks = generator, ranks
        self.identity, self.renderer_hash = generator.identity, generator.renderer_hash

    def __call__(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        said = [[(message.role, message.content) for message in chat] for chat in chats]
        self.ranks.tell({"chats": said, "tokens": max_new_tokens})
        return self.generator(chats, max_new_tokens, decided, progress)
