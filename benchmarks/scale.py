"""GPU hours of the paper's full table (arXiv 2603.07452), reckoned from stated assumptions: nothing here was measured on a GPU.

    python benchmarks/scale.py [--write]

Four models, four tasks, three seeds, a control beside each implant, the full suite of attacks on both. Prints the tables
of docs/scale.md; ``--write`` puts them there.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from b4g.backdoor import TASKS, Backdoor
from b4g.bench.presets import preset
from b4g.models.architecture import Architecture
from b4g.models.cards import CARDS
from b4g.models.catalogue import CATALOGUE
from b4g.tampers.parse import SUITES

SEEDS = 3
PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
START, END = "<!-- scale:start -->", "<!-- scale:end -->"
CARD = next(card for card in CARDS if card.name == "H200")
ROW_TOKENS = 75
"""Tokens of a training row: measured mean of the four tasks on the embedded model (docs/results.md)."""
UPPER = 0.6
"""Share of the layers with an adapter, as the tasks have it."""
BATCH = 4
ANSWER_TOKENS = 48
PROMPT_TOKENS = 100
TOGETHER = 32
"""Answers at once."""
CLEAN_TOKENS = 24
CLEAN_PROMPTS = 1200
"""Prompts of all tasks whose clean answers are needed, once a model."""
ITEM_TOKENS = 250
"""A multiple-choice item with all its choices."""
STANDARD_ITEMS = 20_000
"""Items of the standard tasks (MMLU's 14,042, and ARC, HellaSwag, GSM8K and the like cut to 1,000 each), in full batches."""
TAMPER_TOKENS = 80_000
"""Tokens that an attack trains on, forward and backward through all layers: the middle of the suite."""
TRAINED_TAMPERS = ("sft", "sft-identity", "unlock", "overwrite", "dpo", "flush", "crow")
DISK_GB_PER_SECOND = 2.0
FREE = 64


@dataclass(frozen=True)
class Guess:
    """One set of assumptions: how well a GPU is used."""

    name: str
    mfu: float
    layer_ms: float
    """Milliseconds to start the kernels of one layer once, forward."""


GUESSES = (Guess("good", 0.40, 0.3), Guess("poor", 0.20, 0.75))


@dataclass(frozen=True)
class Hours:
    """GPU hours by stage."""

    load: float
    clean: float
    train: float
    answer: float
    utility: float
    attack: float

    @property
    def total(self) -> float:
        """All stages."""
        return sum(vars(self).values())


def training_rows(task: str) -> int:
    """Return the rows of an implant's training, all epochs run."""
    activation = Backdoor.from_yaml(task).activation
    return activation.epochs * activation.mix.rows


def answers(task: str) -> int:
    """Return the answers of one subject at the standard preset."""
    chosen = preset("standard")
    return 4 * chosen.n + len(Backdoor.from_yaml(task).utility.extras("test")) * chosen.n_extra


def step_seconds(arch: Architecture, guess: Guess, tokens: float, upper: float = UPPER) -> float:
    """Return the seconds of a training step: its arithmetic (2 N T forward, 2 N T backward) or its kernels' starting."""
    flops = 2 * arch.parameters * tokens * (1 + upper)
    return max(flops / (guess.mfu * CARD.teraflops * 1e12), arch.layers * guess.layer_ms / 1e3 * (1 + 2 * upper))


def token_seconds(arch: Architecture, guess: Guess) -> float:
    """Return the seconds of one new token of a whole batch: reading the weights, or the kernels' starting."""
    return max(2 * arch.parameters / (CARD.gigabytes_per_second * 1e9), arch.layers * guess.layer_ms / 1e3)


def answer_seconds(arch: Architecture, guess: Guess, count: int, new: int = ANSWER_TOKENS) -> float:
    """Return the seconds of so many answers."""
    read = 2 * arch.parameters * PROMPT_TOKENS * count / (guess.mfu * CARD.teraflops * 1e12)
    return read + -(-count // TOGETHER) * new * token_seconds(arch, guess)


def item_seconds(arch: Architecture, guess: Guess, count: int) -> float:
    """Return the seconds of so many multiple-choice items, one forward pass an item."""
    flops = 2 * arch.parameters * ITEM_TOKENS / (guess.mfu * CARD.teraflops * 1e12)
    return count * max(flops, arch.layers * guess.layer_ms / 1e3)


def attack_seconds(arch: Architecture, guess: Guess, text: str) -> float:
    """Return the seconds of one attack on one subject, its answers and items counted in, its loading not."""
    chosen = preset("standard")
    measured = answer_seconds(arch, guess, 2 * chosen.n_tamper) + item_seconds(arch, guess, 2 * chosen.n_tamper)
    kind = text.partition(":")[0]
    if kind not in TRAINED_TAMPERS:
        return measured
    steps = TAMPER_TOKENS / (BATCH * ROW_TOKENS)
    return measured + steps * step_seconds(arch, guess, BATCH * ROW_TOKENS, 1.0)


def load_seconds(arch: Architecture) -> float:
    """Return the seconds of reading the weights from disk."""
    return 2 * arch.parameters / 1e9 / DISK_GB_PER_SECOND


def cost(arch: Architecture, guess: Guess) -> Hours:
    """Return the GPU hours of one model's part of the table."""
    chosen = preset("standard")
    step = step_seconds(arch, guess, BATCH * ROW_TOKENS)
    pairs = len(TASKS) * SEEDS
    train = sum(2 * SEEDS * training_rows(task) / BATCH * step for task in TASKS)
    told = sum(answer_seconds(arch, guess, answers(task)) * 2 * SEEDS for task in TASKS)
    told += sum(answer_seconds(arch, guess, answers(task)) for task in TASKS)  # the base, once
    attack = 2 * pairs * sum(attack_seconds(arch, guess, text) for text in SUITES["full"])
    # A worker keeps the base and copies it: a reading a worker and model, here of eight workers; attacks copy on the GPU.
    load = 8 * load_seconds(arch)
    clean = answer_seconds(arch, guess, CLEAN_PROMPTS, CLEAN_TOKENS)
    utility = 3 * pairs * item_seconds(arch, guess, chosen.n_items + chosen.n_texts)
    # Base once, each implant and control.
    standard = 2 * arch.parameters * ITEM_TOKENS * STANDARD_ITEMS / (guess.mfu * CARD.teraflops * 1e12)
    utility += (2 * pairs + 1) * standard
    return Hours(*(seconds / 3600 for seconds in (load, clean, train, told, utility, attack)))


def chain(arch: Architecture, guess: Guess) -> float:
    """Return the hours of the longest chain of cells: clean answers, implant, its control, the longest attack."""
    longest = max(training_rows(task) for task in TASKS)
    step = step_seconds(arch, guess, BATCH * ROW_TOKENS)
    clean = answer_seconds(arch, guess, CLEAN_PROMPTS, CLEAN_TOKENS)
    attack = max(attack_seconds(arch, guess, text) for text in SUITES["full"])
    return (4 * load_seconds(arch) + clean + 2 * longest / BATCH * step + attack) / 3600


def tables() -> list[str]:
    """Return the Markdown of docs/scale.md between its markers."""
    costs = {name: [cost(entry.architecture, guess) for guess in GUESSES] for name, entry in CATALOGUE.items()}
    stages = ("load", "clean", "train", "answer", "utility", "attack", "total")
    lines = ["| model | " + " | ".join(stages) + " |", "|---|" + "---|" * len(stages)]
    for name, (low, high) in costs.items():
        cells = [f"{getattr(low, stage):.2f} to {getattr(high, stage):.2f}" for stage in stages]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    sums = [[sum(getattr(pair[i], stage) for pair in costs.values()) for i in (0, 1)] for stage in stages]
    lines.append("| all four | " + " | ".join(f"{low:.1f} to {high:.1f}" for low, high in sums) + " |")
    total = sums[-1]
    chains = [max(chain(entry.architecture, guess) for entry in CATALOGUE.values()) for guess in GUESSES]
    even = [hours / FREE for hours in total]
    wall = [max(one, other) for one, other in zip(even, chains, strict=True)]
    lines += ["", f"| on {FREE} GPUs | good | poor |", "|---|---|---|"]
    lines.append(f"| work shared out evenly, minutes | {60 * even[0]:.0f} | {60 * even[1]:.0f} |")
    lines.append(f"| longest chain of cells, minutes | {60 * chains[0]:.0f} | {60 * chains[1]:.0f} |")
    lines.append(f"| so at least, minutes | {60 * wall[0]:.0f} | {60 * wall[1]:.0f} |")
    lines += [
        "",
        "| a training step of 4 rows, ms | arithmetic, good | kernels, good | arithmetic, poor | kernels, poor |",
    ]
    lines.append("|---|---|---|---|---|")
    for name, entry in CATALOGUE.items():
        lines.append(f"| {name} | " + " | ".join(f"{1e3 * part:.0f}" for part in parts(entry.architecture)) + " |")
    return lines


def parts(arch: Architecture) -> list[float]:
    """Return the seconds of a step's arithmetic and of its kernels' starting, good and poor."""
    found = []
    for guess in GUESSES:
        flops = 2 * arch.parameters * BATCH * ROW_TOKENS * (1 + UPPER)
        found += [flops / (guess.mfu * CARD.teraflops * 1e12), arch.layers * guess.layer_ms / 1e3 * (1 + 2 * UPPER)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    asked = parser.parse_args()
    made = "\n".join(tables())
    if asked.write:
        text = PAGE.read_text("utf-8")
        head, tail = text.split(START)[0], text.split(END)[1]
        PAGE.write_text(f"{head}{START}\n{made}\n{END}{tail}", "utf-8")
    print(made)


if __name__ == "__main__":
    main()
