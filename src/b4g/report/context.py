"""From a run folder to what the page prints: plain values, nothing scored, nothing generated."""

from collections.abc import Sequence
from typing import Any

from b4g.report import attacks, card, clean, ran, rates, samples, stealth, text, training, words
from b4g.report.folder import Run
from b4g.report.rows import label, mapping

_WIDE_BELOW = 100


def page(run: Run, hidden: Sequence[str] = ()) -> dict[str, Any]:
    """Return everything the template names."""
    headline = rates.headline(run.rates, planned=mapping(run.manifest.get("tasks")))
    return {
        "model": label(mapping(run.manifest.get("model")).get("name")) or "a model",
        "id": label(run.manifest.get("id")) or run.folder.name,
        "about": _about(run),
        "alarm": _alarm(run),
        "wide": _wide(run, headline),
        "verdicts": [rates.verdict(group) for group in headline],
        "arms": [(words.arm(arm), words.ARM_HINTS[arm]) for arm in words.HEADLINE],
        "headline": headline,
        "cards": card.cards(run.cards),
        "attacks": attacks.attacked(run.attacks),
        "tampered": rates.tampered(run.rates),
        "found": stealth.found(run.scans, run.detection),
        "guessed": stealth.measured(run, *stealth.GUESSED),
        "always": stealth.measured(run, *stealth.ALWAYS),
        "further": rates.further(
            [rate for rate in run.rates if not clean.is_clean(rate) and not stealth.is_stealth(rate)]
        ),
        "cleans": clean.clean(run.rates, run.kept, run.divergence),
        "differences": run.differences,
        "trainings": training.trainings(run.cells),
        "samples": samples.choose(run, hidden),
        "facts": ran.facts(run.manifest),
        "backdoors": ran.backdoors(run.manifest),
        "stages": ran.stages(run.cells),
        "failed": ran.reasons(run.cells),
        "waiting": ran.waiting(run.cells),
        "commands": ran.commands(run),
        "version": label(run.manifest.get("b4g")) or text.NOT_RECORDED,
    }


def _about(run: Run) -> list[str]:
    manifest = run.manifest
    seconds = [cell.seconds for cell in run.cells if cell.seconds is not None]
    day = label(manifest.get("created"))[:10]
    said = [
        f"{label(manifest.get('preset'))} preset" if manifest.get("preset") else "",
        f"seed {label(manifest.get('seed'))}" if manifest.get("seed") is not None else "",
        day,
        f"{text.duration(sum(seconds))} of computing" if seconds else "",
    ]
    return [part for part in said if part]


def _alarm(run: Run) -> str:
    failed = sum(cell.state == "failed" for cell in run.cells)
    missing = sum(cell.state == "missing" for cell in run.cells)
    if not failed + missing:
        return ""
    what = [f"{failed} failed" if failed else "", f"{missing} did not run" if missing else ""]
    return f"Incomplete: of {len(run.cells)} cells, {' and '.join(filter(None, what))}."


def _wide(run: Run, headline: Sequence[rates.Group]) -> str:
    smallest = rates.smallest_n(headline)
    if run.manifest.get("preset") == "quick":
        return "Quick preset: few prompts an arm, so intervals are wide. For narrow ones: b4g bench --preset standard"
    if smallest is not None and smallest < _WIDE_BELOW:
        return f"Some rates rest on {smallest} prompts: their intervals are wide."
    return ""
