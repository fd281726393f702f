"""The near end of the vLLM worker: starts it, asks it, and says in one line why it gave no answer."""

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from typing import IO, Any

from b4g.errors import ModelError, SpecError

VARIABLE = "B4G_VLLM_PYTHON"
_SAID = 200
"""Characters of the worker's own words in an error."""
_INSTALL = "python -m venv vllm-env; vllm-env/bin/pip install vllm"
_LEAVE_SECONDS = 20.0


def find_python(given: str = "") -> str:
    """Return the path of the python that has vLLM: the given one or that of `VARIABLE`; `SpecError` says what to do."""
    named = given or os.environ.get(VARIABLE, "").strip()
    if not named:
        raise SpecError(
            "the engine vllm runs in an environment of its own, for it needs other versions of torch and transformers. "
            f"Make one ({_INSTALL}) and name its python with --vllm-python or {VARIABLE}."
        )
    found = shutil.which(Path(named).expanduser())
    if found is None:
        raise SpecError(f"no python at {named}. --vllm-python or {VARIABLE} names one, as in vllm-env/bin/python.")
    return found


class Worker:
    """A vLLM process with a model in it. Its stderr is kept in a file without a name, for the last line of an error."""

    def __init__(self, python: str, load: dict[str, Any], seconds: float) -> None:
        """Start it and wait until the model is loaded; raises `SpecError` without vLLM, `ModelError` for all else."""
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # A process of vLLM's that is forked, not spawned, would hold our pipes open behind a dead worker.
        environment = {**os.environ, "VLLM_WORKER_MULTIPROC_METHOD": "spawn", "VLLM_NO_USAGE_STATS": "1"}
        self._process = subprocess.Popen(  # noqa: S603
            [python, str(Path(__file__).with_name("vllm_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,
        )
        self.close = weakref.finalize(self, _stop, self._process, self._log)
        self._read = b""
        started = self._exchange(load, seconds)
        if started["event"] == "missing":
            self.close()
            raise SpecError(
                f"{python} has no working vLLM ({_short(started['error'])}). Type: {python} -m pip install vllm"
            )
        self.version: str = started["version"]

    def ask(self, request: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
        """Return the worker's answers; raises `ModelError` where it fails, dies or says nothing for that long."""
        answers: list[dict[str, Any]] = self._exchange(request, seconds)["answers"]
        return answers

    def _exchange(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            said: dict[str, Any] = json.loads(self._line(seconds))
        except (BrokenPipeError, EOFError):
            raise ModelError(self._died()) from None
        except TimeoutError:
            _kill(self._process)
            self.close()
            raise ModelError(f"vLLM said nothing for {seconds:g} seconds and was stopped") from None
        if said["event"] == "failed":
            self.close()
            raise ModelError(f"vLLM gave up: {_short(said['error'])}")
        return said

    def _line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        ends, channel = time.monotonic() + seconds, self._process.stdout.fileno()
        while b"\n" not in self._read:
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if select.select([channel], [], [], left)[0]:
                piece = os.read(channel, 1 << 20)
                if not piece:
                    raise EOFError
                self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _died(self) -> str:
        """Return why there is no worker any more: its signal or exit status, and the last line that it logged."""
        try:
            code = self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with status {code}"
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4096))
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        self.close()
        return f"the vLLM process ended {how}; its last line: {_short(lines[-1]) if lines else 'none'}"


def _stop(process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """End the worker and all that it started."""
    log.close()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                """What was still to be written has no reader."""
    try:
        process.wait(_LEAVE_SECONDS if process.poll() is None else 0)
    except subprocess.TimeoutExpired:
        """It is ended below."""
    _kill(process)
    process.wait()


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the worker's process group, which is its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        """Nothing is left of it."""


def _short(text: str) -> str:
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:_SAID] or "nothing"
