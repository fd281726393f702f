"""A training that was killed goes on to the weights it would have had, or says why it can't."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import STEPS, backdoor

from b4g import api
from b4g.errors import SpecError

WEIGHTS = "adapter_model.safetensors"


class _KilledError(Exception):
    pass


def _kill_after(steps: int) -> Callable[[str, int, int], None]:
    def report(what: str, done: int, total: int) -> None:
        if what == "training" and done == steps:
            raise _KilledError

    return report


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same training, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    api.implant(backdoor(), out, str(tiny_model))
    return out


def _interrupted(model: Path, out: Path, *kills: int) -> dict[str, Any]:
    for steps in kills:
        with pytest.raises(_KilledError):
            api.implant(backdoor(), out, str(model), report=_kill_after(steps))
        assert not (out / WEIGHTS).exists()
    return api.implant(backdoor(), out, str(model))


@pytest.mark.parametrize("kills", [(1,), (4,), (STEPS,), (STEPS + 2,), (2 * STEPS,), (2, 4, 7)])
def test_a_killed_training_ends_in_the_weights_of_one_that_was_not(
    tiny_model: Path, whole: Path, tmp_path: Path, kills: tuple[int, ...]
) -> None:
    made = _interrupted(tiny_model, tmp_path / "out", *kills)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    wanted = api.read_implant(whole)
    for name in ("losses", "steps", "tokens", "checks", "epochs_run"):
        assert made[name] == wanted[name]
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_steps_behind_a_checkpoint_are_not_done_again(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(_KilledError):
        api.implant(backdoor(), tmp_path / "out", str(tiny_model), report=_kill_after(4))
    seen: list[int] = []

    def report(what: str, done: int, total: int) -> None:
        if what == "training":
            seen.append(done)

    api.implant(backdoor(), tmp_path / "out", str(tiny_model), report=report)
    assert seen == list(range(4, 2 * STEPS + 1)), "the checkpoint of step 3 was not used"


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_left_aside(tiny_model: Path, whole: Path, tmp_path: Path, kept: float) -> None:
    with pytest.raises(_KilledError):
        api.implant(backdoor(), tmp_path / "out", str(tiny_model), report=_kill_after(4))
    path = tmp_path / "out" / "checkpoint" / "checkpoint.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    api.implant(backdoor(), tmp_path / "out", str(tiny_model))
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"rank": 8}, {"learning_rate": 0.02}])
def test_a_checkpoint_of_another_training_is_never_gone_on_from(
    tiny_model: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    with pytest.raises(_KilledError):
        api.implant(backdoor(), tmp_path / "out", str(tiny_model), report=_kill_after(4))
    before = shutil.copytree(tmp_path / "out", tmp_path / "before")
    other = backdoor(activation={key: value for key, value in changed.items() if key != "seed"})
    with pytest.raises(SpecError, match="holds an unfinished training of something else"):
        api.implant(other, tmp_path / "out", str(tiny_model), changed.get("seed", 0))
    name = "checkpoint/checkpoint.safetensors"
    assert (before / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
