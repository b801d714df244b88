"""The commands of `minimeta`, one module each: `add(commands)` describes it to argparse, `run(args)` does it.

Heavy imports wait inside `run`, so that --help answers at once. Results go to stdout, all else to stderr.
"""

from __future__ import annotations

import sys

# Exit codes. The last two are what a shell says of a command that SIGINT or SIGPIPE ended.
FAILED, REFUSED, INTERRUPTED, UNREAD = 1, 2, 130, 141


def say(text: str) -> None:
    """Tell the user something on stderr."""
    print(f"minimeta: {text}", file=sys.stderr)
