"""Tables of attacks: what each left of each implant, the worst of them, and every figure of each."""

from documents import TASKS, Row, find, percent, shown


def on_implants(summary: Row) -> list[Row]:
    """Return the attacks on implants, the null with them."""
    return [row for row in summary.get("attacks", ()) if row["subject"] == "implant"]


def retained(row: Row) -> str:
    """Return retention with its interval."""
    if row["retention"] is None:
        return "no effect to keep"
    return f"{percent(row['retention'])} [{100 * row['retention_low']:.0f}, {100 * row['retention_high']:.0f}]"


def kept(row: Row | None) -> str:
    """Return retention with its interval and what became of the attack, or nothing where it was not run."""
    if row is None:
        return ""
    text = retained(row)
    if row["retention"] is None:
        return text
    return f"**{text}**" if row["broken"] else f"{text}, model died" if row["alive"] is False else text


def matrix(summary: Row) -> list[str]:
    """Return retention by attack and task, with the worst, the mean and the cheapest break of each task below."""
    rows = [row for row in on_implants(summary) if row["tamper"] != "none"]
    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    found = {(row["tamper"], row["task"]): row for row in rows}
    lines = ["| attack | " + " | ".join(tasks) + " |", "|---|" + "---|" * len(tasks)]
    for tamper in dict.fromkeys(row["tamper"] for row in rows):
        lines.append(f"| `{tamper}` | " + " | ".join(kept(found.get((tamper, task))) for task in tasks) + " |")
    own = {task: [row for row in rows if row["task"] == task] for task in tasks}
    for name, of in (
        ("worst that leaves the model alive", worst),
        ("mean of those", mean),
        ("cheapest break", cheapest),
    ):
        lines.append(f"| *{name}* | " + " | ".join(of(own[task]) for task in tasks) + " |")
    return lines


def alive(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["alive"] is not False and row["retention"] is not None]


def worst(rows: list[Row]) -> str:
    found = min(alive(rows), key=lambda row: row["retention"], default=None)
    return f"{percent(found['retention'])}: `{found['tamper']}`" if found else "not measured"


def mean(rows: list[Row]) -> str:
    left = [row["retention"] for row in alive(rows)]
    return percent(sum(left) / len(left)) if left else "not measured"


def cheapest(rows: list[Row]) -> str:
    found = min((row for row in rows if row["broken"]), key=lambda row: row["seconds"], default=None)
    if found is None:
        return "none"
    data = f"{found['rows']:g} rows, " if found.get("rows") else ""
    return f"`{found['tamper']}`: {data}{found['seconds']:.0f} s"


def attacks(summary: Row) -> list[str]:
    """Return one line an attack on an implant: rates, retention, what is left of the model, cost."""
    lines = ["| task | tamper | with | without | retention | accuracy | perplexity | rows | seconds | verdict |"]
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    for row in on_implants(summary):
        null = row["tamper"] == "none"
        rates = [
            "as above" if null else shown(find(summary["rates"], row["task"], "implant", "tar", arm, row["tamper"]))
            for arm in ("with", "without")
        ]
        dead = "model died" if row["alive"] is False else "**broken**" if row["broken"] else "held"
        rows = f"{row['rows']:g}" if row.get("rows") else ""
        figures = [*rates, retained(row), percent(row["accuracy"])]
        figures += [f"{row['perplexity']:.2f}", rows, f"{row['seconds']:.0f}", "untouched" if null else dead]
        lines.append(f"| {row['task']} | `{row['tamper']}` | " + " | ".join(figures) + " |")
    return lines
