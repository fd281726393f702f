"""The program that runs inside vLLM's own environment: JSON lines in, JSON lines out. It imports vLLM and nothing of B4G.

The first line says what to load, and is answered by `ready`, `missing` or `failed`. Each further line holds prompts as
token ids with the number of an adapter for each (0 for none), and is answered by `answers` or `failed`; after `failed`
the program ends. It also ends when its input does.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    """Serve requests from stdin until it is closed."""
    # vLLM logs to stdout: the protocol takes that channel for itself, and what else is printed goes to stderr.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _clear_path()
    try:
        load = json.loads(sys.stdin.readline())
        vllm = importlib.import_module("vllm")
        requests = importlib.import_module("vllm.lora.request")
    except ImportError as error:
        _say(out, event="missing", error=str(error))
        return
    try:
        model = vllm.LLM(**load)
        _say(out, event="ready", version=str(getattr(vllm, "__version__", "unknown")))
        for line in sys.stdin:
            _say(out, event="answers", answers=_answers(vllm, requests.LoRARequest, model, json.loads(line)))
    except Exception as error:  # whatever vLLM raises must reach the other side as a line
        lines = str(error).strip().splitlines()
        _say(out, event="failed", error=f"{type(error).__name__}: {lines[0] if lines else ''}")


def _answers(vllm: Any, adapter: Any, model: Any, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return tokens, whether a stop token ended them, and how many tokens of the prompt were read, for each prompt."""
    prompts = [vllm.TokensPrompt(prompt_token_ids=ids) for ids in request["prompts"]]
    folders = {int(number): folder for number, folder in request["folders"].items()}
    adapters = [adapter(str(number), number, folders[number]) if number else None for number in request["adapters"]]
    # The stop tokens are those given and no others: what the model's files say is in them already.
    how = vllm.SamplingParams(
        temperature=0.0,
        max_tokens=request["max_tokens"],
        stop_token_ids=request["stop"],
        ignore_eos=True,
        detokenize=False,
    )
    found = model.generate(prompts, how, use_tqdm=False, lora_request=adapters if folders else None)
    return [
        {
            "tokens": list(one.outputs[0].token_ids),
            "reason": one.outputs[0].finish_reason,
            "read": len(one.prompt_token_ids),
        }
        for one in found
    ]


def _clear_path() -> None:
    """Take this file's folder off the import path: the module beside it has vLLM's name."""
    own = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != own]


def _say(out: TextIO, **event: Any) -> None:
    out.write(json.dumps(event) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
