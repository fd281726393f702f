"""LoRA implanting, generation and evaluation of a large architecture with random weights made on the device.

    python benchmarks/gpu.py [--model llama-3.1-8b ...] [--size full|tiny] [--rows 64] [--length 256] [--json FILE]

No download, no network. Prints tokens/s, the share of the card's arithmetic that is used (MFU) and peak memory. ``tiny``
keeps each family's shape and shrinks its numbers, for a CPU: its figures mean nothing.

FLOPs of a step over T tokens: 2 N T forward and 2 N_u T backward, where N are the parameters in matrix products (the
embedding is a look-up; the output layer counts for learnt positions only) and N_u those of layers with an adapter: the
frozen base has no weight gradients (and the lowest of these layers a little less than all of it). Attention adds 4 q S a
token, layer and pass, q being the width of the queries and S the tokens that it sees. With adapters on all layers this
is 4 N T + attention. MFU by "6 N T", the convention for training all weights, is printed beside it: it counts work that
is not done.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common import pin

pin()

import torch  # noqa: E402

from b4g.activations.lora import Lora  # noqa: E402
from b4g.models.architecture import Architecture  # noqa: E402
from b4g.models.attention import use_grouped  # noqa: E402
from b4g.models.cards import CARDS  # noqa: E402
from b4g.models.catalogue import CATALOGUE  # noqa: E402
from b4g.training.batches import Batching, Encoded, batches  # noqa: E402
from b4g.training.implant import compute_again  # noqa: E402
from b4g.training.loop import Schedule, Trainer  # noqa: E402

NEW = 48
ROWS, LENGTH, ANSWER = 64, 256, 24


@dataclass(frozen=True)
class Figures:
    """What was measured of one model; None where it could not be."""

    model: str
    device: str
    parameters: int
    batch_tokens: int
    train_tokens_per_second: float
    train_peak_gb: float | None
    mfu: float | None
    mfu_6n: float | None
    decode_tokens_per_second: float
    one_by_one_tokens_per_second: float
    evaluation_speedup: float
    answer_peak_gb: float | None


def step_flops(arch: Architecture, rows: int, length: int, answer: int = ANSWER, upper: float = 1.0) -> float:
    """Return the FLOPs that a LoRA step needs, by the formula above; each row attends to itself, causally."""
    adapted = round(arch.layers * upper)
    tokens = rows * length
    matrices = 2.0 * arch.layer_matrices * tokens
    seen = 4.0 * arch.queries * (length + 1) / 2 * tokens
    # Attention's two products each have two backward products: nothing in them is frozen.
    layers = arch.layers * (matrices + seen) + adapted * (matrices + 2 * seen)
    return layers + 4.0 * rows * answer * arch.vocab * arch.hidden


def convention_flops(arch: Architecture, tokens: int) -> float:
    """Return 6 N T, with all parameters."""
    return 6.0 * arch.parameters * tokens


def shrunk(arch: Architecture) -> Architecture:
    """Return the family's shape in the smallest numbers."""
    groups = arch.heads // arch.kv_heads
    heads = min(groups, 4) if groups > 1 else 2
    kv_heads = 1 if groups > 1 else 2
    return replace(
        arch, layers=2, hidden=64, heads=heads, kv_heads=kv_heads, head_width=16, intermediate=128, vocab=512
    )


def build(arch: Architecture, device: str) -> Any:
    """Return the network with random bf16 weights, made on the device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        arch.family,
        vocab_size=arch.vocab,
        hidden_size=arch.hidden,
        intermediate_size=arch.intermediate,
        num_hidden_layers=arch.layers,
        num_attention_heads=arch.heads,
        num_key_value_heads=arch.kv_heads,
        head_dim=arch.head_width,
        tie_word_embeddings=arch.tied,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        net = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    net.requires_grad_(False)
    use_grouped(net)
    return net.eval()


def rows_of(arch: Architecture, count: int, length: int) -> list[Encoded]:
    """Return rows of random tokens: nothing is shared, so a tree would save nothing."""
    source = torch.Generator().manual_seed(1)
    ids = torch.randint(1, arch.vocab, (count, length), generator=source).tolist()
    return [Encoded(row, length - ANSWER, str(place)) for place, row in enumerate(ids)]


def timed(work: Any, rounds: int, device: str) -> float:
    """Return the median seconds of a call, after one that warms up."""
    taken = []
    for place in range(rounds + 1):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if place:
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_gb(device: str) -> float | None:
    """Return the most memory that was allocated since the last call, and count anew."""
    if device != "cuda":
        return None
    most = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return round(most, 2)


@torch.inference_mode()
def generate(net: Any, prompts: torch.Tensor, new: int) -> None:
    """Write ``new`` tokens behind each prompt (B, T), greedy, by the generator's way of reading and of keeping states."""
    from b4g.generate.prefill import read_trees

    logits, cache, mask = read_trees(net, prompts.tolist(), new)
    length = prompts.shape[1]
    for step in range(new):
        chosen = logits.argmax(-1)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        places = torch.full_like(chosen, length + step)
        out = net(input_ids=chosen, attention_mask=mask, position_ids=places, past_key_values=cache)
        logits = out.logits[:, -1]


@torch.inference_mode()
def one_by_one(net: Any, prompts: torch.Tensor, new: int) -> None:
    """Write as many tokens behind each prompt by transformers' own ``generate``, a prompt at a time."""
    for row in prompts:
        ids = row[None]
        made = net.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False
        )
        assert made.shape[1] == ids.shape[1] + new


def measure(name: str, asked: argparse.Namespace) -> Figures:
    """Return the figures of one model of the catalogue."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arch = CATALOGUE[name].architecture
    arch = shrunk(arch) if asked.size == "tiny" else arch
    net = build(arch, device)
    prompts = torch.tensor([row.ids for row in rows_of(arch, asked.answers, asked.length // 2)], device=device)
    peak_gb(device)
    batched = timed(lambda: generate(net, prompts, asked.new), asked.rounds, device)
    answer_peak = peak_gb(device)
    few = prompts[: max(1, len(prompts) // 8)]
    single = timed(lambda: one_by_one(net, few, asked.new), 1, device) * len(prompts) / len(few)
    made = Lora(upper=asked.upper).prepare(net, 0).train()
    if asked.checkpointing:
        compute_again(made)
    [batch] = batches(rows_of(arch, asked.rows, asked.length), Batching(asked.rows, 1.0, 0, 0), 0, 0)
    trainer = Trainer(made, Schedule(1e-4, 1), asked.rounds + 1)
    peak_gb(device)
    taken = timed(lambda: trainer._step(batch), asked.rounds, device)
    speed, peak = batch.tokens / taken, peak_gb(device)
    nominal = _nominal(device)
    flops = step_flops(arch, asked.rows, asked.length, ANSWER, asked.upper)
    tokens = len(prompts) * asked.new
    return Figures(
        name,
        torch.cuda.get_device_name() if device == "cuda" else "CPU",
        arch.parameters,
        batch.tokens,
        round(speed, 1),
        peak,
        nominal and round(flops / taken / nominal, 4),
        nominal and round(convention_flops(arch, batch.tokens) / taken / nominal, 4),
        round(tokens / batched, 1),
        round(tokens / single, 1),
        round(single / batched, 2),
        answer_peak,
    )


def _nominal(device: str) -> float | None:
    """Return the card's dense bf16 FLOPs a second by its data sheet, or None."""
    if device != "cuda":
        return None
    shown = torch.cuda.get_device_name()
    return next((card.teraflops * 1e12 for card in CARDS if card.name in shown), None)


def table(found: list[Figures]) -> str:
    """Return the figures as a Markdown table."""
    names = ("model", "device", "train tokens/s", "MFU", "MFU by 6N", "train peak GB")
    names += ("decode tokens/s", "one by one", "ratio", "decode peak GB")
    heads = f"| {' | '.join(names)} |"
    lines = [heads, "|" + "---|" * 10]
    for one in found:
        shares = [f"{100 * share:.1f}%" if share is not None else "not measured" for share in (one.mfu, one.mfu_6n)]
        peaks = [
            f"{peak:.1f}" if peak is not None else "not measured" for peak in (one.train_peak_gb, one.answer_peak_gb)
        ]
        lines.append(
            f"| {one.model} | {one.device} | {one.train_tokens_per_second:,.0f} | {shares[0]} | {shares[1]} | {peaks[0]} "
            f"| {one.decode_tokens_per_second:,.0f} | {one.one_by_one_tokens_per_second:,.0f} "
            f"| {one.evaluation_speedup:.1f}x | {peaks[1]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(CATALOGUE))
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a training batch; the recipe's own are 4")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a row; a prompt has half of them")
    parser.add_argument("--answers", type=int, default=64, help="prompts answered at once")
    parser.add_argument("--new", type=int, default=NEW)
    parser.add_argument(
        "--upper", type=float, default=1.0, help="share of the layers with an adapter; the tasks have 0.6"
    )
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.size == "full" and not torch.cuda.is_available():
        sys.exit("no GPU here: --size tiny tries the script out on a CPU")
    found = []
    for name in asked.model or CATALOGUE:
        found.append(measure(name, asked))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    settings = {key: value for key, value in vars(asked).items() if key != "json"}
    made = {"settings": settings, "torch": torch.__version__, "figures": [asdict(one) for one in found]}
    if asked.json:
        asked.json.write_text(json.dumps(made, indent=1), "utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
