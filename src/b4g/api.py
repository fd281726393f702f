"""Implant and measure from Python: what the commands of the same names do."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from b4g.backdoor import Backdoor
from b4g.data.prompts import Prompt
from b4g.errors import ModelError, SpecError
from b4g.generate.base import Generator, progress_of
from b4g.hashing import digest
from b4g.keys import PUBLIC
from b4g.measure.probes import arms, probes
from b4g.measure.records import Record, collect
from b4g.measure.scores import Context, Score, differences, rates, references, score
from b4g.models.load import Model, check_renderer, load_implant, load_model
from b4g.models.source import resolve

Report = Callable[[str, int, int], None]


def implant(
    backdoor: Backdoor,
    out: Path,
    model: str = "smollm2-135m",
    seed: int = 0,
    report: Report | None = None,
    checkpointing: bool = False,
    quantized: str | None = None,
) -> dict[str, Any]:
    """Implant a backdoor into a model and write the adapter into ``out``; return the content of its ``implant.json``.

    An interrupted call with the same arguments goes on from its last checkpoint. Under torchrun or accelerate all processes
    train one implant. ``checkpointing`` computes layers again to save memory, ``quantized`` ("4bit") holds the base in nf4.
    Raises `ModelError`, `SpecError`.
    """
    from b4g.training.implant import Training
    from b4g.training.implant import implant as train
    from b4g.training.ranks import start

    if (out / "implant.json").is_file():
        raise SpecError(f"{out} already holds an implant; choose another folder or delete it")
    first = start().first
    loaded, seeded = load_model(model, quantized=quantized), backdoor.seeded(seed)
    if first:
        owned = [seeded.hash, seed, loaded.revision]
        _claim(out, digest([*owned, quantized] if quantized else owned))
    return train(loaded, Training(seeded, seed, checkpointing=checkpointing), out, report)


def _claim(out: Path, training: str) -> None:
    """Raise `SpecError` if the checkpoint in ``out`` is of another training; say whose the next one will be."""
    owner = out / "checkpoint" / "training.txt"
    if owner.is_file() and owner.read_text("utf-8") != training:
        raise SpecError(
            f"{out} holds an unfinished training of something else: another specification, seed or model. "
            "Give the same arguments to go on with it, choose another folder, or delete it."
        )
    owner.parent.mkdir(parents=True, exist_ok=True)
    owner.write_text(training, "utf-8")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What to measure on."""

    n: int = 100
    """Test prompts in each arm; ignored where ``prompts`` are given."""
    n_extra: int = 60
    prompts: tuple[Prompt, ...] = ()
    """The user's own prompts, in place of the project's test split."""
    any_renderer: bool = False
    """Measure even if the implant was made under another chat template; its base is not checked then."""


def measure(
    folder: Path,
    model: str | None = None,
    key: Path | None = None,
    asked: Asked | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Return rates of an implant and its base, their paired differences and the records, for an implant's folder.

    ``model`` names the base where it is not the one in ``implant.json``; ``key`` is the owner's key file where the
    specification points to one, or the folder of several. The result is ``{"rates", "differences", "records"}``.
    """
    made = read_implant(folder)
    backdoor = backdoor_of(made, key)
    asked = asked or Asked()
    name = base_place(made, model)
    seed = int(made["seed"])
    found = arms(backdoor, asked.prompts, seed) if asked.prompts else probes(backdoor, asked.n, asked.n_extra, seed)
    records: dict[str, list[Record]] = {}
    for subject in ("base", made["subject"]):
        loaded = load_model(name) if subject == "base" else load_implant(name, folder, checked=not asked.any_renderer)
        check_renderer(made, loaded, asked.any_renderer)
        records[subject] = collect(
            _generator(loaded), backdoor, found, subject, progress_of(report, f"answers, {subject}")
        )
    return compared(records, backdoor, made["subject"], Context(name, seed))


def compared(
    records: Mapping[str, Sequence[Record]], backdoor: Backdoor, subject: str, context: Context
) -> dict[str, Any]:
    """Return the rates of each subject's records, the differences of one from the base, if that was asked, and the records."""
    said = references(records["base"]) if "base" in records else {}
    scores: dict[str, list[Score]] = {who: score(rows, backdoor.utility, said) for who, rows in records.items()}
    return {
        "rates": [row for rows in scores.values() for row in rates(rows, context)],
        "differences": differences(scores["base"], scores[subject]) if "base" in scores else [],
        "records": [record.to_json() for rows in records.values() for record in rows],
    }


def read_implant(folder: Path) -> dict[str, Any]:
    """Return the content of an implant folder's ``implant.json``, or raise `ModelError`."""
    path = folder / "implant.json"
    if not path.is_file():
        raise ModelError(f"{folder} holds no implant.json: it is not an implant's folder. Make one with: b4g implant")
    try:
        made: dict[str, Any] = json.loads(path.read_text("utf-8"))
        needed = [made["model"][name] for name in ("name", "revision", "renderer")]
        needed += [made[name] for name in ("subject", "backdoor", "seed")]
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({type(error).__name__}: {error})") from None
    return made


def base_place(made: dict[str, Any], given: str | None, option: str = "--model") -> str:
    """Return what an implant's base is loaded by: what is given, else its name in ``implant.json``.

    Raises `ModelError` that names the option where that name leads nowhere on this machine.
    """
    name = str(made["model"]["name"])
    if given:
        return given
    try:
        resolve(name)
    except ModelError:
        raise ModelError(
            f"the implant's base is called '{name}', and no model is known here by that name. "
            f"Say where it is: {option} FOLDER, a .gguf file, or a hub id"
        ) from None
    return name


def backdoor_of(made: dict[str, Any], key: Path | None) -> Backdoor:
    """Return the backdoor of an ``implant.json``, its secret read from the owner's key file where it names one."""
    return Backdoor.from_dict(_with_key(made["backdoor"], key))


def secrets_of(folder: Path, key: Path | None) -> tuple[str, ...]:
    """Return the texts of an implant's secret; none where it is in a key file that is not given."""
    known = known_backdoor(read_implant(folder), key)
    return tuple(known.trigger.hidden()) if known else ()


def known_backdoor(made: dict[str, Any], key: Path | None) -> Backdoor | None:
    """Return the backdoor of an ``implant.json``, or None where its secret is in a key file that is not given."""
    return None if key is None and _key_files(made["backdoor"]["trigger"]) else backdoor_of(made, key)


def _generator(model: Model) -> Generator:
    from b4g.generate.local import LocalGenerator

    return LocalGenerator(model)


def _with_key(fields: dict[str, Any], key: Path | None) -> dict[str, Any]:
    trigger = fields["trigger"]
    names = _key_files(trigger)
    if key is None and not names:
        return fields
    if key is None:
        several = "the folder that holds them with --key FOLDER" if len(names) > 1 else "it with --key FILE"
        raise SpecError(f"the trigger's secret is in the owner's key file '{', '.join(names)}'. Give {several}.")
    if not names:
        raise SpecError("the implant's key is public: it needs no --key")
    if len(names) > 1 and not key.is_dir():
        raise SpecError(f"the trigger needs {len(names)} key files: {', '.join(names)}. Give their folder with --key.")
    return {**fields, "trigger": _placed(trigger, key)}


def _key_files(trigger: dict[str, Any]) -> list[str]:
    """Return the key files that a trigger and its parts name."""
    own = [trigger["key"]] if "key" in trigger and not trigger["key"].startswith(PUBLIC) else []
    return own + [name for part in trigger.get("parts", ()) for name in _key_files(part)]


def _placed(trigger: dict[str, Any], key: Path) -> dict[str, Any]:
    """Return the trigger with its key files read from ``key``: the one file, or the folder of several."""
    made = {**trigger}
    for name in _key_files({**trigger, "parts": ()}):
        made["key"] = str(key / name if key.is_dir() else key)
    if "parts" in trigger:
        made["parts"] = [_placed(part, key) for part in trigger["parts"]]
    return made
