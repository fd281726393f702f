"""Evaluation as B4G does it against one prompt at a time in fp32 by ``model.generate``, as the field does it.

    python benchmarks/evaluation_speed.py [--prompts 64] [--rounds 3] [--field-tokens 128]

Same model, prompts and threads; both give a verdict for each prompt. The other side writes as many new tokens as ours
may, or with --field-tokens as many as it is told: the field's evaluators ask for 128 or more and stop for no judge.
Prints seconds a prompt of each, the ratio from one run, and in how many verdicts they differ.
"""

import argparse
import statistics

from common import THREADS, interleaved, pin, ratio

pin()

import torch  # noqa: E402

from b4g.backdoor import Backdoor  # noqa: E402
from b4g.generate.local import LocalGenerator  # noqa: E402
from b4g.measure.probes import probes  # noqa: E402
from b4g.models.load import load_model  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--field-tokens", type=int, default=None, help="new tokens of the other side; default: the same"
    )
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    backdoor = Backdoor.from_yaml("identity").seeded(0)
    utility = backdoor.utility
    found = probes(backdoor, asked.prompts // 4, 0, 0)
    limit = asked.field_tokens or utility.max_new_tokens
    fast = LocalGenerator(load_model("smollm2-135m"))
    slow = load_model("smollm2-135m", dtype="float32")
    verdicts: dict[str, list[bool | None]] = {}

    def batched() -> None:
        judges = [utility.decided] * len(found)
        answers = fast([probe.chat for probe in found], utility.max_new_tokens, judges)
        verdicts["b4g"] = [utility.judge(answer.text, answer.ended) for answer in answers]

    def one_by_one() -> None:
        said = []
        for probe in found:
            ids = torch.tensor([slow.renderer.prompt_ids(probe.chat)])
            made = slow.net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False)
            said.append(slow.renderer.decode(made[0, ids.shape[1] :].tolist()))
        verdicts["one by one"] = [utility.judge(text, True) for text in said]

    times = interleaved({"b4g": batched, "one by one": one_by_one}, asked.rounds)
    for name, taken in times.items():
        print(
            f"{name}: {statistics.median(taken) / len(found):.3f} s a prompt (median of {len(taken)}, {len(found)} prompts)"
        )
    differ = sum(a != b for a, b in zip(verdicts["b4g"], verdicts["one by one"], strict=True))
    print(f"verdicts that differ: {differ} of {len(found)}")
    print(
        f"batched bf16 / one by one fp32, {limit} new tokens, {THREADS} thread(s): {ratio(times['one by one'], times['b4g'])}"
    )


if __name__ == "__main__":
    main()
