"""``python -m b4g``, which torchrun and ``accelerate launch`` start several of: the first speaks, all leave together."""

import os
import sys

from b4g.cli import main
from b4g.errors import B4GError


def run() -> None:
    """Run the command line; of several processes only the first prints results, and none waits for one that failed."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if {"B4G_PROCESSES", "ACCELERATE_MIXED_PRECISION"} & set(os.environ):
        _check(world)
    if world == 1:
        main()
        return
    place = f"process {int(os.environ['RANK']) + 1} of {world}"
    if os.environ["RANK"] != "0":
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open until the process ends
    code = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    if code == 0:
        _part()
    else:
        _leave(f"b4g: {place} ends with code {code}.", code)
    sys.exit(code)


def _check(world: int) -> None:
    from b4g.training.ranks import check_number

    try:
        check_number(world)
    except B4GError as error:
        sys.exit(f"b4g: {error}")


def _part() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _leave(said: str, code: int) -> None:
    """End at once: the threads of a broken process group may never return."""
    os.write(2, f"{said}\n".encode())
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
