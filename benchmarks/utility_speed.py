"""The quick measure of base, control and implant in one pass, against one model alone by the same code.

    python benchmarks/utility_speed.py IMPLANT CONTROL [--items 200] [--rounds 3]

Prints seconds of each and the ratio from one run; three models one after the other would be 3x. Both give the same items.
"""

import argparse
import statistics
from pathlib import Path

from common import THREADS, interleaved, pin, ratio

pin()

import torch  # noqa: E402

from b4g.models.load import load_model  # noqa: E402
from b4g.utility import quick  # noqa: E402
from b4g.utility.items import items  # noqa: E402
from b4g.utility.shared import Shared  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("implant", type=Path)
    parser.add_argument("control", type=Path)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    three = Shared(load_model(asked.model), {"control": asked.control, "implant": asked.implant})
    one = Shared(load_model(asked.model), {"implant": asked.implant})
    alone = Shared(load_model(asked.model), {})
    chosen = items()[: asked.items]
    quick.read_clean(three, asked.texts)  # the clean answers are cached
    works = {
        "items, three": lambda: quick.grade(three, chosen),
        "items, two": lambda: quick.grade(one, chosen),
        "items, base alone": lambda: quick.grade(alone, chosen),
        "texts, three": lambda: quick.read_clean(three, asked.texts),
    }
    times = interleaved(works, asked.rounds)
    for name, taken in times.items():
        print(f"{name}: {statistics.median(taken):.1f} s (median of {len(taken)})")
    whole = [a + b for a, b in zip(times["items, three"], times["texts, three"], strict=True)]
    print(f"quick utility of all three: {statistics.median(whole):.1f} s, {THREADS} thread(s)")
    print(f"three models / one, {len(chosen)} items: {ratio(times['items, three'], times['items, base alone'])}")


if __name__ == "__main__":
    main()
