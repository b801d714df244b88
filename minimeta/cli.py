"""The command line: `minimeta train`, `minimeta evaluate` and the other modules of `minimeta.commands`.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done; 1 training failed (the loss diverged,
memory ran out); 2 the request cannot be met, explained in one line; 130 ended by Ctrl-C, with everything saved, so that
a script which goes on after success does not take half a run for a whole one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from minimeta.commands import (
    FAILED,
    INTERRUPTED,
    REFUSED,
    UNREAD,
    doctor,
    evaluate,
    inspect,
    kernels,
    learn,
    plot,
    predict,
    recipes,
    say,
    study,
    train,
)

COMMANDS = (train, evaluate, predict, plot, study, recipes, inspect, learn, kernels, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    args = _parser().parse_args(argv)
    try:
        from minimeta import memory, threads

        memory.keep()
        with threads.limited():
            code = int(args.command(args))
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # who was reading has seen enough, as in `minimeta kernels | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor is there anything to flush at exit
        return UNREAD
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        say(f"error: out of memory{reason}; fewer episodes at a time may fit: --tasks 1, or --set chunk=1")
        return FAILED
    except ArithmeticError as error:
        say(f"error: {error}")
        return FAILED
    # what users can cause: wrong values, missing or damaged files, missing extras, a missing GPU
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        say(f"error: {error}")
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minimeta", description="Few-shot and meta-learning from scratch.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
