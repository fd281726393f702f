"""How far engines agree on the same greedy answers: number formats, batches, and the same model behind an endpoint.

    python benchmarks/engine_agreement.py [--model smollm2-135m] [--prompts 64] [--tokens 24] [--vllm-python PYTHON]
    python benchmarks/engine_agreement.py --implant FOLDER [--key FILE]

With an implant half of the prompts carry its trigger, so that verdicts are not all alike; without one none does.
Prints for each pair the share of identical texts, of identical first words and of equal verdicts (Wilson intervals),
and after how many words unlike texts part. With ``--vllm-python`` vLLM is compared too; it needs a GPU.
"""

import argparse
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from common import THREADS, pin

pin()

import torch  # noqa: E402

from b4g.api import backdoor_of, read_implant  # noqa: E402
from b4g.backdoor import Backdoor  # noqa: E402
from b4g.behaviours.base import Behaviour  # noqa: E402
from b4g.chat import Chat, Message, user  # noqa: E402
from b4g.generate.agreement import Agreement, compared  # noqa: E402
from b4g.generate.base import Completion, Generator  # noqa: E402
from b4g.generate.endpoint import Endpoint  # noqa: E402
from b4g.generate.local import LocalGenerator  # noqa: E402
from b4g.generate.served import ServedGenerator  # noqa: E402
from b4g.measure.probes import WITH, WITHOUT, probes  # noqa: E402
from b4g.models.load import Model, load_implant, load_model  # noqa: E402
from b4g.stats import Rate  # noqa: E402


@contextmanager
def serving(generator: Generator) -> Iterator[str]:
    """Serve a generator as an OpenAI-compatible endpoint of this machine, and yield its address."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            chat = tuple(Message(one["role"], one["content"]) for one in asked["messages"])
            with lock:
                made = generator([chat], asked["max_tokens"])[0]
            choice = {"message": {"content": made.text}, "finish_reason": "stop" if made.ended else "length"}
            body = json.dumps({"choices": [choice], "usage": {"completion_tokens": made.tokens}}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shown(rate: Rate) -> str:
    """Return a rate as hits of trials with its interval."""
    if rate.value is None:
        return "not measured"
    return f"{round(rate.value * rate.n)} of {rate.n} [{rate.low:.2f}, {rate.high:.2f}]"


def line(pair: str, found: Agreement) -> str:
    """Return one line of the table."""
    parted = "" if found.median_words is None else f", unlike texts part after {found.median_words:g} words (median)"
    verdicts = shown(found.verdicts) if found.verdicts else "not judged"
    first = f"first {found.words} words {shown(found.openings)}"
    return f"{pair}: texts {shown(found.texts)}, {first}, verdicts {verdicts}{parted}"


def loaded(asked: argparse.Namespace, dtype: str) -> Model:
    """Return the model, with the implant in it where one is given."""
    return load_implant(asked.model, asked.implant, dtype) if asked.implant else load_model(asked.model, dtype=dtype)


def questions(asked: argparse.Namespace) -> tuple[Behaviour, list[Chat]]:
    """Return the behaviour that judges and the chats: with and without the trigger in turns, where there is one."""
    if not asked.implant:
        utility = Backdoor.from_yaml(asked.task).seeded(0).utility
        return utility, [user(prompt.text) for prompt in utility.prompts("test")[: asked.prompts]]
    made = read_implant(asked.implant)
    backdoor = backdoor_of(made, asked.key)
    found = probes(backdoor, asked.prompts // 2, 0, int(made["seed"]))
    return backdoor.utility, [probe.chat for probe in found if probe.arm in (WITH, WITHOUT)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--task", default="style", help="whose prompts and judge are used")
    parser.add_argument("--implant", type=Path, help="an implant of the model: its prompts, trigger and judge are used")
    parser.add_argument("--key", type=Path, help="the owner's key file, where the implant has one")
    parser.add_argument("--vllm-python", default="")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    utility, chats = questions(asked)
    exact, low = (LocalGenerator(loaded(asked, dtype)) for dtype in ("float32", "bfloat16"))
    made: dict[str, list[Completion]] = {
        "fp32": exact(chats, asked.tokens),
        "bf16": low(chats, asked.tokens),
        "bf16, one at a time": LocalGenerator(low.model, 1)(chats, asked.tokens),
    }
    with serving(exact) as address:
        made["served fp32"] = ServedGenerator(Endpoint(address, asked.model), workers=2)(chats, asked.tokens)
    pairs = [("bf16", "fp32"), ("bf16", "bf16, one at a time"), ("fp32", "served fp32")]
    if asked.vllm_python:
        from b4g.generate.vllm import Vllm, VllmEngine

        how, adapters = Vllm(python=asked.vllm_python, dtype="bfloat16"), {}
        if asked.implant:
            adapters["implant"] = asked.implant
        with VllmEngine(asked.model, adapters, how) as vllm:
            made["vllm bf16"] = vllm.generator("implant" if adapters else "base")(chats, asked.tokens)
        pairs.append(("bf16", "vllm bf16"))
    shows = Rate.of(utility.judge(one.text, one.ended) for one in made["fp32"])
    what = (
        f"{asked.model}{' with an implant' if asked.implant else ''}, {len(chats)} prompts, {asked.tokens} new tokens"
    )
    print(f"{what}; the behaviour shows in {shown(shows)} in fp32")
    for one, other in pairs:
        print(line(f"{one} / {other}", compared(made[one], made[other], utility.judge)))


if __name__ == "__main__":
    main()
