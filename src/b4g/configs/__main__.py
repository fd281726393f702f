"""Print the path of a configuration for ``accelerate launch``."""

import sys

from b4g.configs import launch_config
from b4g.errors import B4GError

if __name__ == "__main__":
    try:
        sys.stdout.write(f"{launch_config(sys.argv[1] if len(sys.argv) > 1 else '')}\n")
    except B4GError as error:
        sys.exit(f"b4g: {error}")
