"""Workers that speak the protocol of a real one and load nothing."""

import stat
import sys
from pathlib import Path

WORKER = """#!{python} -S
import json, os, signal, sys
from pathlib import Path
folder = Path(sys.argv[3])
def say(cell, event, **more):
    print(json.dumps({{"cell": cell, "event": event, **more}}), flush=True)
def finish(cell):
    home = folder / "cells" / cell
    home.mkdir(parents=True, exist_ok=True)
    (home / "done.json").write_text(json.dumps({{"id": cell, "files": {{}}, "seconds": 0}}))
    say(cell, "done", seconds=0.1)
def first_time(cell):
    (folder / "seen").mkdir(exist_ok=True)
    seen = folder / "seen" / cell
    first = not seen.exists()
    seen.touch()
    return first
for line in sys.stdin:
    cell = line.strip()
    {behaviour}
    finish(cell)
"""


def fake_worker(folder: Path, behaviour: str) -> str:
    """Write a program that does ``behaviour`` with each cell before it is done, and return its path."""
    script = folder / "worker"
    script.write_text(WORKER.format(python=sys.executable, behaviour=behaviour), "utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)
