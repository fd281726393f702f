"""What every benchmark here does: pin the threads before torch is imported, take medians, print a ratio."""

import os
import statistics
import time
from collections.abc import Callable

THREADS = int(os.environ.get("B4G_THREADS", "1"))


def pin() -> None:
    """Pin the threads; call before torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def seconds(work: Callable[[], object]) -> float:
    """Return the wall seconds that one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time each work once a round, in turns, so that a busy spell of the machine hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def ratio(slow: list[float], fast: list[float]) -> str:
    """Return the median of the paired ratios with the smallest and largest, and n."""
    each = sorted(a / b for a, b in zip(slow, fast, strict=True))
    return f"{statistics.median(each):.2f}x [{each[0]:.2f}, {each[-1]:.2f}] n={len(each)}"
