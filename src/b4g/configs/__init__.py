"""Configurations for ``accelerate launch``: ``python -m b4g.configs 8`` prints the path of the one for 8 GPUs."""

from pathlib import Path

from b4g.errors import SpecError, unknown


def launch_config(processes: str) -> Path:
    """Return the configuration file for that many processes on one machine, or raise `SpecError`."""
    found = {path.stem: path for path in (Path(__file__).parent / "fsdp").glob("*.yaml")}
    if processes not in found:
        raise SpecError(unknown("number of processes", processes, found) + " Or: torchrun --nproc-per-node N")
    return found[processes]
