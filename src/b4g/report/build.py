"""Write the report of a run: one HTML file that needs no network and no script."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from b4g.errors import StoreError
from b4g.keys import redact
from b4g.report import svg, text, words
from b4g.report.context import page
from b4g.report.folder import read_run


def write_report(run: Path, out: Path | None = None, hidden: tuple[str, ...] = ()) -> Path:
    """Write the report of a run folder and return its path; an older one stays whole until the new one is complete.

    ``hidden`` are secrets to take out of all that is printed. A run folder without a summary, or a damaged one,
    raises `StoreError`.
    """
    html = render(run, hidden)
    target = run / "report.html" if out is None else out
    # Beside the target, for a rename is atomic within one file system only.
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(html, encoding="utf-8", newline="\n")
        os.replace(draft, target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror}. Give another place with --out.") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return target


def render(run: Path, hidden: Sequence[str] = ()) -> str:
    """Return the HTML of a run folder; the same folder gives the same text."""
    return _environment(hidden).get_template("page.html").render(page(read_run(run), hidden))


def _environment(hidden: Sequence[str]) -> Environment:
    def finalize(value: object) -> object:
        is_text = isinstance(value, str) and not hasattr(value, "__html__")
        return text.visible(redact(str(value), hidden)) if is_text else value

    environment = Environment(
        loader=PackageLoader("b4g.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(text=text, words=words, bar=svg.bar, around_zero=svg.around_zero)
    return environment
