"""The GPU benchmark runs, its formulas hold, and the page on scale says what its script prints."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from b4g.models.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Any:
    """Let the benchmarks be imported as the scripts that they are, their settings of the environment taken back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE"):
            patch.setenv(name, "1" if name != "OMP_WAIT_POLICY" else "passive")
        yield


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: its figures would not be those of a CPU")
def test_every_family_runs_small_and_says_what_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    small = "--size tiny --rows 4 --length 48 --answers 8 --new 4 --rounds 1 --checkpointing"
    monkeypatch.setattr(sys, "argv", ["gpu.py", *small.split(), "--json", str(tmp_path / "found.json")])
    gpu.main()
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert [row["model"] for row in found["figures"]] == list(CATALOGUE)
    for row in found["figures"]:
        assert row["batch_tokens"] == 4 * 48
        assert row["train_tokens_per_second"] > 0
        assert row["decode_tokens_per_second"] > 0
        assert row["one_by_one_tokens_per_second"] > 0
        assert (row["mfu"], row["train_peak_gb"]) == (None, None)
    said = capsys.readouterr().out
    assert said.count("not measured") == 4 * len(CATALOGUE)


def test_the_full_size_is_not_tried_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="no GPU here: --size tiny"):
        gpu.main()


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_network_of_the_benchmark_has_the_parameters_of_its_architecture(name: str) -> None:
    import gpu

    arch = gpu.shrunk(CATALOGUE[name].architecture)
    assert sum(param.numel() for param in gpu.build(arch, "cpu").parameters()) == arch.parameters
    with torch.device("meta"):
        whole = gpu.build(CATALOGUE[name].architecture, "meta")
    assert sum(param.numel() for param in whole.parameters()) == CATALOGUE[name].architecture.parameters


@pytest.mark.parametrize("upper", [1.0, 0.5])
def test_the_flops_of_a_step_are_those_that_torch_counts(upper: float) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    import gpu
    from b4g.activations.lora import Lora
    from b4g.training.batches import Batching, batches
    from b4g.training.loop import completion_loss

    small = gpu.shrunk(CATALOGUE["llama-2-13b"].architecture)
    arch = gpu.replace(small, layers=8, hidden=256, intermediate=512, head_width=128)
    net = Lora(rank=1, upper=upper).prepare(gpu.build(arch, "cpu"), 0).train()
    rows, length = 2, 64
    [batch] = batches(gpu.rows_of(arch, rows, length), Batching(rows, 1.0, 0, 0), 0, 0)
    with FlopCounterMode(display=False) as counted:
        completion_loss(net, batch).backward()
    # Torch counts scores that the mask hides, and the adapter; the lowest adapted layer needs no gradient of its input.
    masked = 4.0 * arch.queries * (length - 1) / 2 * rows * length * (arch.layers + 2 * round(arch.layers * upper))
    assert counted.get_total_flops() == pytest.approx(
        gpu.step_flops(arch, rows, length, upper=upper) + masked, rel=0.06
    )


def test_with_adapters_on_all_layers_the_matrices_cost_four_n_t() -> None:
    import gpu

    arch = CATALOGUE["llama-3.1-8b"].architecture
    matrices = arch.layers * arch.layer_matrices
    assert gpu.step_flops(arch, 8, 64, answer=0) == pytest.approx(4 * matrices * 8 * 64, rel=0.02)
    assert gpu.convention_flops(arch, 10) == 60 * arch.parameters


def test_the_page_on_scale_holds_the_tables_that_the_script_prints() -> None:
    import scale

    text = scale.PAGE.read_text("utf-8")
    assert text.split(scale.START)[1].split(scale.END)[0].strip() == "\n".join(scale.tables())


def test_the_page_on_scale_states_the_assumptions_that_the_script_reckons_with() -> None:
    import scale

    text = scale.PAGE.read_text("utf-8")
    good, poor = scale.GUESSES
    wanted = [f"{100 * poor.mfu:.0f} to {100 * good.mfu:.0f}%", f"{good.layer_ms} to {poor.layer_ms} ms"]
    wanted += [f"{scale.ROW_TOKENS} tokens", f"{scale.TAMPER_TOKENS:,} tokens", f"{scale.STANDARD_ITEMS:,} items"]
    assert [one for one in wanted if one not in text] == []
    figures = re.findall(r"\| H200: [^\n]*", text)
    assert len(figures) == 4
    for line in figures:
        assert line.count("not measured") == len(CATALOGUE)


def test_better_use_of_the_card_never_costs_more() -> None:
    import scale

    for entry in CATALOGUE.values():
        good, poor = (scale.cost(entry.architecture, guess) for guess in scale.GUESSES)
        assert all(getattr(good, stage) <= getattr(poor, stage) for stage in vars(good))
        assert 0 < scale.chain(entry.architecture, scale.GUESSES[0]) < good.total
