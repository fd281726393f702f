"""Text that is fit to print: hidden characters made visible, long answers cut, numbers in words."""

import math
import unicodedata

CUT = "[cut]"
NOT_MEASURED = "not measured"
NOT_RECORDED = "not recorded"
_KEPT = frozenset("\n\t\u200c\u200d")
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))


def visible(text: str) -> str:
    """Return the text with each control, format and surrogate character spelt as [U+XXXX].

    A completion is hostile: a right-to-left override would turn the text around it, a lone surrogate can't be written.
    The joiners that scripts and emoji need stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelt(char) for char in text.replace("\r\n", "\n"))


def _spelt(char: str) -> str:
    seen = char in _KEPT or unicodedata.category(char) not in _UNSEEN
    return char if seen else f"[U+{ord(char):04X}]"


def cut(text: str, length: int) -> str:
    """Return at most ``length`` characters of the text, and `CUT` where some are left out."""
    return text if len(text) <= length else f"{text[:length].rstrip()} {CUT}"


def share(value: float | None) -> str:
    """Return a rate as a percentage without its sign; 0 and 100 stand for exactly none and exactly all."""
    if value is None:
        return NOT_MEASURED
    points = 100 * value
    if 0 < points < 0.05:
        return "<0.1"
    if 99.95 < points < 100:
        return ">99.9"
    return f"{points:.1f}" if 0 < points < 0.95 or 99.05 <= points < 100 else f"{points:.0f}"


def percent(value: float | None) -> str:
    """Return a rate as "97%", or that it is not measured."""
    return NOT_MEASURED if value is None else f"{share(value)}%"


def interval(low: float | None, high: float | None) -> str:
    """Return an interval of rates as "[92, 99]", or nothing where there is none."""
    return "" if low is None or high is None else f"[{share(low)}, {share(high)}]"


def points(value: float | None) -> str:
    """Return a difference of rates in signed points, or that it is not measured."""
    if value is None:
        return NOT_MEASURED
    sign = "" if value == 0 else "+" if value > 0 else "\N{MINUS SIGN}"
    return sign + share(abs(value))


def span(low: float | None, high: float | None) -> str:
    """Return an interval of differences as "[+88, +98]", or nothing where there is none."""
    return "" if low is None or high is None else f"[{points(low)}, {points(high)}]"


def probability(p: float | None) -> str:
    """Return a p-value with two digits; tiny ones as the bound that they lie below."""
    if p is None:
        return NOT_MEASURED
    return "<0.0001" if p < 0.0001 else f"{p:.2g}"


def counted(scored: int, unscored: int) -> str:
    """Return "n=120 (2 unscored)"."""
    return f"n={scored:,}" + (f" ({unscored:,} unscored)" if unscored else "")


def duration(seconds: float | None) -> str:
    """Return a time as a reader says it: "41 s", "3 min 12 s", "2 h 5 min"."""
    if seconds is None or not math.isfinite(seconds):
        return NOT_RECORDED
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def memory(megabytes: float | None) -> str:
    """Return a size of memory in MB or GB."""
    if megabytes is None or not math.isfinite(megabytes):
        return NOT_RECORDED
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def number(value: float | None) -> str:
    """Return a count with separators, or a fraction with three digits."""
    if value is None:
        return NOT_RECORDED
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
