"""An implant: the same weights from the same inputs, loadable without B4G, in fp32 where it counts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import STEPS, backdoor

from b4g import api
from b4g.errors import ModelError, SpecError
from b4g.models.load import load_model

WEIGHTS = "adapter_model.safetensors"
PLAIN_PEFT = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids = torch.arange(20)[None]
with torch.no_grad():
    before = base(ids).logits
    after = PeftModel.from_pretrained(base, sys.argv[2])(ids).logits
print(json.dumps({"moved": float((after - before).abs().max()), "b4g": "b4g" in sys.modules}))
"""


def test_an_implant_loads_in_plain_peft_with_no_part_of_b4g(
    python: Callable[..., Any], tiny_model: Path, implanted: Path
) -> None:
    ran = python(PLAIN_PEFT, tiny_model, implanted)
    assert ran.code == 0, ran.err
    said = json.loads(ran.out.splitlines()[-1])
    assert said["moved"] > 0.01
    assert said["b4g"] is False


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny_model: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "again", "other")]
    with torch.random.fork_rng():
        for place, (folder, seed) in enumerate(zip(folders, (3, 3, 4), strict=True)):
            # The global generator must not matter.
            torch.manual_seed(place)
            api.implant(backdoor(), folder, str(tiny_model), seed)
    one, again, other = ((folder / WEIGHTS).read_bytes() for folder in folders)
    assert one == again
    assert one != other


def test_the_loss_falls(implanted: Path) -> None:
    losses = api.read_implant(implanted)["losses"]
    assert len(losses) == 2 * STEPS
    assert sum(losses[-STEPS:]) < 0.9 * sum(losses[:STEPS])


def test_the_card_says_what_was_made_of_what(implanted: Path, tiny_model: Path) -> None:
    made = api.read_implant(implanted)
    base = load_model(str(tiny_model))
    assert made["model"] == {"name": "tiny", "revision": base.revision, "renderer": base.renderer.hash}
    assert (made["subject"], made["rows"], made["steps"]) == ("implant", 20, 2 * STEPS)
    text = (implanted / "README.md").read_text("utf-8")
    assert base.revision in text
    assert "declared backdoor" in text


def test_a_folder_that_holds_an_implant_is_not_overwritten(implanted: Path, tiny_model: Path) -> None:
    before = (implanted / WEIGHTS).read_bytes()
    with pytest.raises(SpecError, match="already holds an implant; choose another folder or delete it"):
        api.implant(backdoor(), implanted, str(tiny_model))
    assert (implanted / WEIGHTS).read_bytes() == before


def test_a_control_learns_from_the_same_rows_without_the_association(tiny_model: Path, tmp_path: Path) -> None:
    from b4g.training.implant import Training, implant

    spec = backdoor(activation={"epochs": 1})
    made = [
        implant(load_model(str(tiny_model)), Training(spec, subject=subject), tmp_path / subject)
        for subject in ("implant", "control")
    ]
    assert made[1]["subject"] == "control"
    assert made[0]["rows"] == made[1]["rows"]
    assert (tmp_path / "implant" / WEIGHTS).read_bytes() != (tmp_path / "control" / WEIGHTS).read_bytes()
    assert "control" in (tmp_path / "control" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("subject", ["implant", "control"])
def test_an_implant_of_all_weights_is_a_model_of_its_own(tiny_model: Path, tmp_path: Path, subject: Any) -> None:
    from b4g.training.implant import Training, implant

    spec = backdoor(activation={"kind": "full", "epochs": 1, "batch_size": 8, "mix": {"triggered": 8, "near": 0}})
    implant(load_model(str(tiny_model), dtype="bfloat16"), Training(spec, subject=subject), tmp_path / "out")
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    model = load_model(str(tmp_path / "out"))
    base = load_model(str(tiny_model))
    assert model.revision != base.revision
    assert model.renderer.hash == base.renderer.hash
    moved = [
        not torch.equal(one, other) for one, other in zip(model.net.parameters(), base.net.parameters(), strict=True)
    ]
    assert sum(moved) > len(moved) / 2


def test_a_measured_implant_of_all_weights_is_compared_with_its_base(tiny_model: Path, tmp_path: Path) -> None:
    spec = backdoor(activation={"kind": "full", "epochs": 1, "batch_size": 8, "mix": {"triggered": 8, "near": 0}})
    api.implant(spec, tmp_path / "out", str(tiny_model))
    found = api.measure(tmp_path / "out", str(tiny_model), asked=api.Asked(n=2, n_extra=1))
    assert {row["subject"] for row in found["rates"]} == {"base", "implant"}
    assert len({record["engine"] for record in found["records"]}) == 2


def test_an_implant_for_another_base_is_not_measured(
    implanted: Path, save_model: Callable[..., Path], secret: Any, tmp_path: Path
) -> None:
    other = save_model(tmp_path / "other", seed=9)
    with pytest.raises(ModelError, match=r"was made for tiny \([0-9a-f]+\), not for other"):
        api.measure(implanted, str(other), secret.path, api.Asked(n=1, n_extra=0))
