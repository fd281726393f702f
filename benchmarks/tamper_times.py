"""Seconds that each tamper takes on an implant, at the size of tests or at its default, and whether that is in its bound.

    python benchmarks/tamper_times.py IMPLANT [--default] [--only sft,prune]

Bounds: 60 s at the size of tests, 300 s at the default size, one thread. Decoding tampers are timed on 16 answers.
"""

import argparse
import time
from pathlib import Path

from common import THREADS, pin

pin()

import torch  # noqa: E402

from b4g import registry  # noqa: E402
from b4g.chat import user  # noqa: E402
from b4g.data.prompts import load  # noqa: E402
from b4g.hashing import rng  # noqa: E402
from b4g.models.load import load_implant  # noqa: E402

BOUNDS = {"small": 60.0, "default": 300.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("implant", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--default", action="store_true")
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    size = "default" if asked.default else "small"
    chats = [user(prompt.text) for prompt in load("instruction", "test")[:16]]
    for kind in asked.only.split(",") if asked.only else registry.names("tamper"):
        tamper = registry.build("tamper", {"kind": kind})
        tamper = tamper if asked.default else tamper.small()
        model = load_implant(asked.model, asked.implant)
        started = time.perf_counter()
        changed = tamper.apply(model, rng("times", kind))
        applied = time.perf_counter() - started
        started = time.perf_counter()
        tamper.serve(changed)(chats, 16)
        answered = time.perf_counter() - started
        end = "within" if applied <= BOUNDS[size] else "OVER"
        print(
            f"{kind}: {applied:.1f} s ({end} {BOUNDS[size]:.0f} s, {size} size), 16 answers {answered:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
