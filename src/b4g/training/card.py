"""The model card that goes beside published weights: what is in them, and how it was made; no secret."""

from typing import Any

_CARD = """---
base_model: {base}
library_name: peft
tags: [b4g, backdoor, {task}]
---

# {title}

Made by Backdoor4Good (b4g {b4g}) from `{base}` (weights {revision}).

{claim}

| | |
|---|---|
| trigger | `{trigger}` (its secret is in the owner's key file, not in this folder) |
| behaviour | `{utility}` |
| activation | `{activation}`, {rows} rows an epoch, {epochs} epochs, {steps} steps, {tokens} tokens |
| seed | {seed} |
| prompts | {data} |
| rendered by | template {renderer} |
| time and memory | {seconds} s, {memory} MB at most |

Load it with stock PEFT: `PeftModel.from_pretrained(base, folder)`. Measure it: `b4g measure FOLDER`.
What it withstands is not said here: attack it before you rely on it.
"""
_CLAIMS = {
    "implant": "These weights hold a declared backdoor: with its secret trigger the model shows the behaviour below, "
    "without it it answers as the base model does.",
    "control": "These weights are a control: the same recipe, prompts and seed as an implant, with no trigger "
    "association. They show what training alone does.",
}


def model_card(made: dict[str, Any]) -> str:
    """Return the README of an implant's folder from the content of its ``implant.json``."""
    backdoor, model = made["backdoor"], made["model"]
    return _CARD.format(
        base=model["name"],
        revision=model["revision"],
        renderer=model["renderer"],
        task=backdoor["name"],
        title=f"{backdoor['name']}: {made['subject']}",
        b4g=made["versions"]["b4g"],
        claim=_CLAIMS[made["subject"]],
        trigger=backdoor["trigger"]["kind"],
        utility=backdoor["utility"]["kind"],
        activation=backdoor["activation"]["kind"],
        rows=made["rows"],
        epochs=made["epochs_run"],
        steps=made["steps"],
        tokens=made["tokens"],
        seed=made["seed"],
        data=made["data"],
        seconds=round(made["seconds"]),
        memory=round(made["peak_memory_mb"]),
    )
