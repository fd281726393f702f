"""Measure what another engine serves: what ``b4g measure --endpoint`` and ``--engine vllm`` do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from b4g.api import Asked, Report, backdoor_of, base_place, compared, measure, read_implant
from b4g.errors import SpecError, unknown
from b4g.generate.base import Generator, progress_of
from b4g.generate.engines import BASE, ENDPOINT, ENGINES, VLLM, Engine, Options, engine
from b4g.measure.probes import arms, probes
from b4g.measure.records import Record, collect
from b4g.measure.scores import Context
from b4g.models.load import check_rendered


@dataclass(frozen=True)
class Served:
    """Where a model is served, and as what."""

    url: str = field(repr=False)
    name: str
    """The model's name there."""
    base: str | None = None
    """The untouched base's name there: without it nothing is compared, and no rate says what the implant changed."""
    key_variable: str | None = None
    """Environment variable that holds the key."""
    workers: int = 8
    """Requests at once."""


@dataclass(frozen=True)
class By:
    """What is to answer, as people type it."""

    engine: str = "transformers"
    url: str | None = field(default=None, repr=False)
    served: str | None = None
    served_base: str | None = None
    key_variable: str | None = None
    vllm_python: str = ""


def measure_by(
    by: By, folder: Path, model: str | None, key: Path | None, asked: Asked, report: Report | None = None
) -> dict[str, Any]:
    """Return what `b4g.api.measure` does, by the engine that is named; a wrong name or half an address raises at once."""
    if by.engine not in ENGINES:
        raise SpecError(unknown("engine", by.engine, ENGINES))
    if by.url or by.engine == ENDPOINT:
        if not (by.url and by.served):
            raise SpecError("a served model takes --endpoint URL and --served NAME")
        served = Served(by.url, by.served, by.served_base, by.key_variable)
        return measure_served(folder, served, key, asked, report)
    if by.engine == VLLM:
        return measure_vllm(folder, model, key, asked, report, by.vllm_python)
    return {**measure(folder, model, key, asked, report), "engine": by.engine}


def measure_served(
    folder: Path, served: Served, key: Path | None = None, asked: Asked | None = None, report: Report | None = None
) -> dict[str, Any]:
    """Return what `b4g.api.measure` does, of the model behind an endpoint that is said to hold the implant of ``folder``.

    The folder gives the backdoor and the seed; its weights are not read. The server renders by a template of its own,
    so a check of templates is not possible. ``unanswered`` counts the chats without an answer, by subject: they are
    unscored. Raises `SuspectError` where the endpoint answers none.
    """
    made = read_implant(folder)
    names = {BASE: served.base, made["subject"]: served.name}
    options = Options(
        url=served.url,
        served={who: name for who, name in names.items() if name is not None},
        key_variable=served.key_variable,
        workers=served.workers,
    )
    with engine(ENDPOINT, "", options=options) as served_by:
        return _measured(made, served_by, list(options.served), (key, asked or Asked(any_renderer=True)), report)


def measure_vllm(
    folder: Path,
    model: str | None = None,
    key: Path | None = None,
    asked: Asked | None = None,
    report: Report | None = None,
    python: str = "",
) -> dict[str, Any]:
    """Return what `b4g.api.measure` does, with the answers of vLLM: base and implant from one process."""
    made = read_implant(folder)
    options = Options(python=python)
    with engine(VLLM, base_place(made, model), {made["subject"]: folder}, options) as vllm:
        return _measured(made, vllm, [BASE, made["subject"]], (key, asked or Asked()), report)


def suspect(url: str, name: str | None, key_variable: str | None = None) -> Generator:
    """Return a served model as a scanner's suspect; raises `SpecError` without the model's name there."""
    from b4g.generate.endpoint import Endpoint
    from b4g.generate.served import ServedGenerator

    if not name:
        raise SpecError("a server's address needs the model's name there: --served NAME")
    return ServedGenerator(Endpoint(url, name, key_variable))


def _measured(
    made: Mapping[str, Any], by: Engine, subjects: list[str], how: tuple[Path | None, Asked], report: Report | None
) -> dict[str, Any]:
    key, asked = how
    backdoor, seed = backdoor_of(dict(made), key), int(made["seed"])
    found = arms(backdoor, asked.prompts, seed) if asked.prompts else probes(backdoor, asked.n, asked.n_extra, seed)
    records: dict[str, list[Record]] = {}
    for who in subjects:
        generator = by.generator(who)
        if by.name != ENDPOINT and not asked.any_renderer:
            check_rendered(made, generator.renderer_hash)
        records[who] = collect(generator, backdoor, found, who, progress_of(report, f"answers, {who}"))
    return {
        **compared(records, backdoor, made["subject"], Context(made["model"]["name"], seed)),
        "unanswered": {who: sum(bool(record.failed) for record in rows) for who, rows in records.items()},
        "engine": by.name,
    }
