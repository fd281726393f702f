"""Programs run in processes of their own, and the finished run that many tests read."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = "import sys; from b4g.cli import main; sys.argv[0] = 'b4g'; main()"
"""The command line as a program."""


@dataclass(frozen=True)
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Finished:
    """A finished run by two real workers, of a specification with a key file."""

    runs: Path
    spec: Path
    model: Path
    ran: Ran

    @property
    def folder(self) -> Path:
        """The run's folder; for reading only."""
        return next(path for path in self.runs.iterdir() if path.is_dir())

    def command(self, runs: Path) -> list[str]:
        """Return the arguments of the same run in another place."""
        places = ["--model", str(self.model), "--task", str(self.spec), "--runs", str(runs)]
        return ["bench", "--preset", "tiny", *places]

    def copy(self, runs: Path) -> tuple[Path, Any]:
        """Return a copy of the run that a test may spoil, and its plan."""
        from b4g.bench.api import prepare
        from b4g.bench.setup import arguments

        shutil.copytree(self.folder, runs / self.folder.name)
        made = prepare(arguments(str(self.model), (str(self.spec),), "tiny"), runs, 1)
        assert made.folder == runs / self.folder.name
        return made.folder, made.plan


def run_python(code: str, *arguments: Any, **environment: str) -> Ran:
    """Return what a program gives in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    return Ran(done.returncode, done.stdout, done.stderr)
