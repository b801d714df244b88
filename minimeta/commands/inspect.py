"""`minimeta inspect`: look into a function's graph and its backward walk, as text, as a page, or step by step."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from minimeta.inspect.steps import Steps


class Target(NamedTuple):
    """What to look into: a scalar function and its arguments."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    name: str


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "inspect",
        help="look into the graph of a function, and its backward walk step by step",
        description="Look into the graph of a function and its backward walk. It is differentiated by its first "
        "argument. Examples: attention, maml-sinusoid, perturbation-confusion, prototypical, tanh.",
    )
    parser.add_argument(
        "what", metavar="EXAMPLE|SCRIPT.py:FUNCTION",
        help="an example, or a function of one number whose arguments all have defaults: these are its values",
    )  # fmt: skip
    parser.add_argument("--order", type=int, default=1, metavar="N", help="the derivative to walk to; default: 1")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--text", action="store_true", help="print the graph and what it keeps in memory (the default)")
    how.add_argument("--page", metavar="FILE", help="write one HTML file that shows graph and walk in any browser")
    how.add_argument("--step", action="store_true", help="walk backward in the terminal, one keypress a step")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Show it; the exit code."""
    from minimeta import inspect

    target = _target(args.what)
    if args.page is not None:
        title = f"{target.name}, order {args.order}" if args.order > 1 else target.name
        inspect.page(target.function, *target.args, order=args.order, file=args.page, title=title)
        print(args.page)
    elif args.step:
        _walk(inspect.steps(target.function, *target.args, order=args.order))
    else:
        print(inspect.program(target.function, *target.args, order=args.order))
        print()
        print(inspect.memory(target.function, *target.args, order=args.order))
    return 0


def _target(what: str) -> Target:
    from minimeta.inspect.examples import EXAMPLES

    if what in EXAMPLES:
        return Target(EXAMPLES[what].function, EXAMPLES[what].args, what)
    script, separator, name = what.rpartition(":")
    if not separator or not script.endswith(".py"):
        raise ValueError(f"{what}: no such example; choose from {', '.join(EXAMPLES)}, or name a SCRIPT.py:FUNCTION")
    from minimeta.inspect.script import function_with_values

    function, values = function_with_values(script, name)
    return Target(function, values, name)


def _walk(walk: Steps) -> None:
    """Wait for a key after each step, q ends it; where no terminal is in front, go on."""
    from minimeta.inspect.steps import summary
    from minimeta.inspect.terminal import ask

    count = len(walk.path)
    print(f"forward: {summary(walk.value)}; then {count} {'step' if count == 1 else 'steps'} backward")
    for step in walk:
        print(f"\n{step}")
        if step.number < count and ask("[any key: the next step; q: end]") in ("q", "Q", "\x1b"):
            return
    for name, gradient in walk.gradients().items():
        print(f"\nthe gradient by {name}: {summary(gradient)}")
