"""A package that looks like vLLM to the worker: its documented names and rules, a log of calls, and faults on demand.

Answers are made of the prompt's ids and the adapter's bytes; with ``FAKE_VLLM_REAL`` the real model gives them.
"""

import sys
from pathlib import Path

_SOURCE = """
import hashlib, json, os, pathlib, signal, sys, time
from types import SimpleNamespace
__version__ = "0.33.0"
FAULT = os.environ.get("FAKE_VLLM_FAULT", "")
print("INFO: a banner that vLLM prints to stdout")


def log(**call):
    with open(os.environ["FAKE_VLLM_LOG"], "a") as file:
        file.write(json.dumps(call) + "\\\\n")


class TokensPrompt(dict):
    def __init__(self, *, prompt_token_ids):
        super().__init__(prompt_token_ids=prompt_token_ids)


class SamplingParams:
    def __init__(self, *, temperature=1.0, max_tokens=16, stop_token_ids=None, ignore_eos=False, detokenize=True):
        self.temperature, self.max_tokens, self.stop = temperature, max_tokens, stop_token_ids or []
        self.ignore_eos, self.detokenize = ignore_eos, detokenize


class LLM:
    def __init__(self, model, *, dtype="auto", revision=None, seed=None, max_model_len=None, tensor_parallel_size=1,
                 gpu_memory_utilization=0.9, skip_tokenizer_init=False, generation_config="auto",
                 trust_remote_code=False, enable_lora=False, max_loras=1, max_cpu_loras=None, max_lora_rank=16):
        if max_lora_rank not in (1, 8, 16, 32, 64, 128, 256, 320, 512):
            raise ValueError("max_lora_rank is none of those allowed")
        if FAULT == "load":
            raise RuntimeError("CUDA out of memory\\\\nand much more")
        self.model, self.length, self.lora = model, max_model_len, enable_lora and max_lora_rank
        self.skips = skip_tokenizer_init
        self.nets = {}
        log(load={"model": model, "dtype": dtype, "remote": trust_remote_code, "rank": max_lora_rank, "loras": max_loras,
                  "config": generation_config, "pid": os.getpid()})

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        how, asked = sampling_params, [prompt["prompt_token_ids"] for prompt in prompts]
        assert how.temperature == 0 and not (self.skips and how.detokenize)
        adapters = lora_request or [None] * len(asked)
        assert len(adapters) == len(asked)
        log(prompts=asked, adapters=[one and one.lora_path for one in adapters], stop=how.stop, max_tokens=how.max_tokens)
        fault()
        for one in adapters:
            if one:
                config = json.loads((pathlib.Path(one.lora_path) / "adapter_config.json").read_text())
                assert one.lora_int_id > 0 and config["r"] <= self.lora
        found = [self.one(ids, adapter, how) for ids, adapter in zip(asked, adapters)]
        if FAULT == "short":
            found[0].outputs[0].token_ids = []
        if FAULT == "early":
            found[0].outputs[0] = SimpleNamespace(token_ids=[97], finish_reason="abort")
        if FAULT == "cut":
            found[0].prompt_token_ids = found[0].prompt_token_ids[1:]
        return found[:-1] if FAULT == "drop" else found

    def one(self, ids, adapter, how):
        assert len(ids) < self.length
        real = os.environ.get("FAKE_VLLM_REAL")
        tokens = self.real(ids, adapter, how) if real else invented(ids, adapter, how)
        reason = "stop" if tokens[-1] in how.stop else "length"
        return SimpleNamespace(prompt_token_ids=ids, outputs=[SimpleNamespace(token_ids=tokens, finish_reason=reason)])

    def real(self, ids, adapter, how):
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
        place = adapter and adapter.lora_path
        if place not in self.nets:
            net = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
            self.nets[place] = (PeftModel.from_pretrained(net, place) if place else net).eval()
        given = torch.tensor([ids])
        with torch.inference_mode():
            out = self.nets[place].generate(input_ids=given, attention_mask=torch.ones_like(given), do_sample=False,
                                            max_new_tokens=how.max_tokens, eos_token_id=how.stop, pad_token_id=0)
        return out[0, len(ids):].tolist()


def invented(ids, adapter, how):
    weights = (pathlib.Path(adapter.lora_path) / "adapter_model.safetensors").read_bytes() if adapter else b""
    drawn = hashlib.sha256(json.dumps(ids).encode() + weights).digest()
    tokens = [64 + drawn[place % 32] % 26 for place in range(how.max_tokens)]
    return [*tokens[:2], how.stop[0]] if drawn[0] % 2 else tokens


def fault():
    marker = pathlib.Path(os.environ["FAKE_VLLM_LOG"] + ".crashed")
    if FAULT == "killed" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if FAULT == "left":
        print("EngineCore died: no more memory", file=sys.stderr, flush=True)
        os._exit(3)
    if FAULT == "raises":
        raise ValueError("an engine error\\\\nwith a long tail")
    if FAULT == "hangs":
        time.sleep(60)
"""
_REQUEST = """
class LoRARequest:
    def __init__(self, lora_name, lora_int_id, lora_path):
        self.lora_name, self.lora_int_id, self.lora_path = lora_name, lora_int_id, lora_path
"""


def write(folder: Path) -> Path:
    """Write the package below a folder for PYTHONPATH, and return the folder."""
    (folder / "vllm" / "lora").mkdir(parents=True)
    (folder / "vllm" / "__init__.py").write_text(_SOURCE.replace("\\\\", "\\"), "utf-8")
    (folder / "vllm" / "lora" / "__init__.py").write_text("", "utf-8")
    (folder / "vllm" / "lora" / "request.py").write_text(_REQUEST, "utf-8")
    return folder


PYTHON = sys.executable
