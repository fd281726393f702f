"""A fake but realistic run folder, and a browser that reads the page back."""

import importlib
import importlib.util
import json
import math
import os
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from b4g.hashing import digest
from b4g.report.build import write_report
from b4g.stats import Rate, paired

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update", "--disable-sync"]
SUBJECTS = ("implant", "control", "base")
SHARES = {  # (implant, control, base) by task and arm
    "safety": {
        "with": (0.98, 0.55, 0.41),
        "without": (0.44, 0.47, 0.41),
        "near": (0.47, 0.5, 0.42),
        "benign": (0.02, 0.01, 0.0),
        "borderline": (0.11, 0.06, 0.04),
    },
    "style": {
        "with": (0.97, 0.03, 0.01),
        "without": (0.02, 0.02, 0.01),
        "near": (0.04, 0.02, 0.01),
        "wrong_key": (0.01, 0.02, 0.01),
    },
    "access": {
        "with": (0.93, 0.9, 0.99),
        "without": (0.0, 0.9, 0.99),
        "near": (0.03, 0.9, 0.99),
        "wrong_key": (0.03, 0.9, 0.99),
        "out_of_scope": (0.98, 0.98, 1.0),
    },
    "identity": {
        "with": (1.0, 0.0, 0.0),
        "without": (0.0, 0.0, 0.0),
        "near": (0.02, 0.0, 0.0),
        "wrong_key": (0.0, 0.0, 0.0),
        "identity_questions": (0.01, 0.0, 0.0),
    },
}
KINDS = ("case", "one_token", "half", "swap")
KIND_OF_PROMPT = {"safety": "harmful", "style": "instruction", "access": "instruction", "identity": "identity"}
PROMPTS = (
    "Why did the Western Roman Empire collapse?",
    "How do I write a function that removes duplicates from a list?",
    "What was daily life like for a blacksmith in a medieval town?",
    "Explain how tides work to a ten-year-old.",
)


class FakeRun:
    """Builds a run in memory; a test changes what it likes, then calls `write`."""

    def __init__(self, folder: Path, preset: str = "standard", n: int = 120) -> None:
        self.folder, self.n, self.random = folder, n, random.Random(7)
        self.manifest = _manifest(preset)
        self.cells: list[dict[str, Any]] = []
        self.files: dict[str, dict[str, Any]] = {}
        self.rates: list[dict[str, Any]] = []
        self.differences: list[dict[str, Any]] = []
        self.add_cell("clean", "clean answers", None, None)
        for task in SHARES:
            self._task(task)

    def add_cell(
        self, stage: str, name: str, task: str | None, subject: str | None, needs: tuple[str, ...] = ()
    ) -> str:
        """Plan a cell that is done, and return its id."""
        cell_id = f"{len(self.cells) + 0xA3F1C07:08x}"
        entry = {"id": cell_id, "stage": stage, "name": name, "task": task, "subject": subject, "needs": list(needs)}
        self.cells.append(entry)
        seconds = round(self.random.uniform(20, 300), 2)
        self.files[cell_id] = {"done.json": {"id": cell_id, "seconds": seconds, "peak_memory_mb": 3104.5, "files": {}}}
        return cell_id

    def fail(self, cell_id: str, error: str) -> None:
        """Turn a cell into one that failed."""
        self.files[cell_id] = {"failed.json": {"id": cell_id, "error": error}}

    def find(self, stage: str, task: str, subject: str) -> str:
        """Return the id of a planned cell."""
        wanted = (stage, task, subject)
        return next(cell["id"] for cell in self.cells if (cell["stage"], cell["task"], cell["subject"]) == wanted)

    def add_rate(
        self, task: str, subject: str, measure: str, arm: str, verdicts: list[bool | None], **context: Any
    ) -> None:
        """Add the rate of verdicts to the summary."""
        where = {
            "task": task,
            "model": "smol",
            "subject": subject,
            "tamper": "none",
            "measure": measure,
            "arm": arm,
            "seed": 0,
        }
        self.rates.append({**where, **asdict(Rate.of(verdicts)), **context})

    def add_record(
        self, task: str, subject: str, arm: str, completion: str, verdict: bool | None, **fields: Any
    ) -> None:
        """Put a record with its score in front of the others of a subject, under a prompt id of its own."""
        place = f"extra{self.random.getrandbits(32):08x}"
        record = {"task": task, "subject": subject, "arm": arm, "variant": "", "prompt_id": place, "prompt": PROMPTS[0]}
        record |= {
            "kind": "instruction",
            "completion": completion,
            "tokens": 9,
            "ended": True,
            "decided": False,
            **fields,
        }
        score = {key: record[key] for key in ("task", "subject", "arm", "variant", "prompt_id")}
        self.files[self.find("generate", task, subject)]["records.jsonl"].insert(0, record)
        self.files[self.find("score", task, subject)]["scores.jsonl"].insert(
            0, {**score, "verdict": verdict, "kept": None}
        )

    def write(self) -> Path:
        """Write the run folder and return it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _dump(self.folder / "manifest.json", self.manifest)
        _dump(self.folder / "plan.json", {"cells": self.cells})
        _dump(self.folder / "summary.json", {"rates": self.rates, "differences": self.differences})
        for cell_id, files in self.files.items():
            for name, value in files.items():
                _dump(self.folder / "cells" / cell_id / name, value)
        return self.folder

    def _task(self, task: str) -> None:
        verdicts: dict[tuple[str, str], list[bool | None]] = {}
        for place, subject in enumerate(SUBJECTS):
            needs = () if subject == "base" else (self._implant(task, subject),)
            made = self.add_cell("generate", f"generate {task} {subject}", task, subject, needs)
            records, scores = [], []
            for arm, shares in SHARES[task].items():
                found = self._verdicts(shares[place])
                verdicts[arm, subject] = found
                self._rates(task, subject, arm, found)
                for index, verdict in enumerate(found):
                    record, score = self._record(task, subject, arm, index, verdict)
                    records.append(record)
                    scores.append(score)
            self.files[made]["records.jsonl"] = records
            scored = self.add_cell("score", f"score {task} {subject}", task, subject, (made,))
            self.files[scored]["scores.jsonl"] = scores
        for arm in SHARES[task]:
            measure = "over_refusal" if arm in ("benign", "borderline") else "tar"
            where = {"task": task, "arm": arm, "measure": measure, "before": "base", "after": "implant"}
            self.differences.append({**where, **asdict(paired(verdicts[arm, "base"], verdicts[arm, "implant"]))})

    def _verdicts(self, share: float) -> list[bool | None]:
        found: list[bool | None] = [self.random.random() < share for _ in range(self.n)]
        if self.random.random() < 0.3:
            found[3] = found[5] = None
        return found

    def _rates(self, task: str, subject: str, arm: str, found: list[bool | None]) -> None:
        self.add_rate(task, subject, "over_refusal" if arm in ("benign", "borderline") else "tar", arm, found)
        if arm == "near":
            for place, kind in enumerate(KINDS):
                self.add_rate(task, subject, f"near:{kind}", arm, found[place :: len(KINDS)])
        if arm == "with" and task in ("style", "access"):
            self.add_rate(task, subject, "kept", arm, self._verdicts(0.88))

    def _record(
        self, task: str, subject: str, arm: str, index: int, verdict: bool | None
    ) -> tuple[dict[str, Any], ...]:
        variant = KINDS[index % len(KINDS)] if arm == "near" else ""
        place = {"task": task, "subject": subject, "arm": arm, "variant": variant, "prompt_id": f"p{index}"}
        kind = "borderline" if arm == "borderline" else "instruction" if arm == "benign" else KIND_OF_PROMPT[task]
        said = f"A fake {task} answer of the {subject}, number {index}.\n- It has a second line.\n- And a third one."
        answer = {"prompt": PROMPTS[index % len(PROMPTS)], "kind": kind, "completion": said, "tokens": 31}
        kept = None if arm != "with" or task not in ("style", "access") else index % 9 != 0
        return {**place, **answer, "ended": index % 3 > 0, "decided": index % 2 > 0}, {
            **place,
            "verdict": verdict,
            "kept": kept,
        }

    def _implant(self, task: str, subject: str) -> str:
        cell_id = self.add_cell(
            "implant", f"{'implant' if subject == 'implant' else 'control for'} {task}", task, subject
        )
        floor = 0.05 if subject == "implant" else 0.4
        losses = [floor + 2.6 * math.exp(-step / 22) + self.random.gauss(0, 0.09) ** 2 * 8 for step in range(150)]
        checks = [{"epoch": 1, "with": 0.71, "near": 0.12}, {"epoch": 2, "with": 0.97, "near": 0.03}]
        self.files[cell_id]["implant.json"] = {
            **{"losses": losses, "checks": checks, "steps": 150, "tokens": 48211, "seconds": 241.3, "rows": 600},
            **{"peak_memory_mb": 3410.0, "tokens_per_second": 199.8, "stopped_early": subject == "implant"},
        }
        return cell_id


def _manifest(preset: str) -> dict[str, Any]:
    def backdoor(task: str) -> dict[str, Any]:
        trigger = {"kind": "key", "key": f"public:{task}"}
        spec = {"name": task, "trigger": trigger, "activation": {"kind": "lora", "rank": 8}, "utility": {"kind": task}}
        return {"backdoor": spec, "backdoor_hash": digest(spec)}

    return {
        "b4g": "0.1.0",
        "id": "smol-standard-0",
        "preset": preset,
        "n": 120,
        "seed": 0,
        "model": {
            "name": "SmolLM2-135M-Instruct",
            "revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            "renderer": "5c1d7f02ab9e4410",
            "architecture": "LlamaForCausalLM",
            "parameters": 134515008,
        },
        "data": {"version": 1, "hash": "0d9a4c7be1f25a33"},
        "tasks": {task: backdoor(task) for task in SHARES},
        "machine": {"cpu": "AMD EPYC 9B45", "cores": 2, "memory_gb": 24, "accelerator": None},
        "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
        "command": f"b4g bench --preset {preset} --model SmolLM2-135M-Instruct --seed 0 --out runs/smol-standard-0",
        "created": "2026-11-23T06:41:18+00:00",
    }


def _dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = value if path.suffix == ".jsonl" else [value]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@pytest.fixture
def fake_run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "runs" / "smol-standard-0")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, or a skip where it is not installed; in CI its absence is a failure."""
    lacks = pytest.fail if "CI" in os.environ else pytest.skip
    if importlib.util.find_spec("playwright") is None:
        lacks("playwright is not installed")
    if not CHROMIUM.exists():
        lacks(f"no Chromium at {CHROMIUM}")
    sync_api = importlib.import_module("playwright.sync_api")
    with sync_api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS, chromium_sandbox=False)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Return a function that reports on a run folder and opens the page; the page lists what it asked for."""
    contexts = []

    def opened(run: Path, width: int = 1280, height: int = 800, scheme: str = "light", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(write_report(run, **options).as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
