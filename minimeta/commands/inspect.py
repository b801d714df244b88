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
        description="Look into the graph of a function of one number, differentiated by its first argument.",
    )
    parser.add_argument(
        "what", nargs="?", metavar="EXAMPLE|SCRIPT.py:FUNCTION",
        help="an example, or a function of one number whose arguments all have defaults: these are its values; "
        "default: list the examples",
    )  # fmt: skip
    parser.add_argument("--order", type=int, default=1, metavar="N", help="the derivative to walk to; default: 1")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--text", action="store_true", help="print the graph and what it keeps in memory (the default)")
    how.add_argument("--page", metavar="FILE", help="write one HTML file that shows graph and walk in any browser")
    how.add_argument("--step", action="store_true", help="walk backward in the terminal, one keypress a step")
    parser.add_argument(
        "--first-order", action="store_true",
        help="with --page: beside the graph what is left of it when inner gradients count as constants, as in FOMAML",
    )  # fmt: skip
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Show it; the exit code."""
    from minimeta import inspect

    if args.first_order and (args.page is None or args.order != 1):
        raise ValueError("--first-order goes with --page, and with no --order")
    if args.what is None:
        return _list_examples()
    function, values, name = _target(args.what)
    if args.page is not None:
        if args.first_order:
            page = inspect.page_maml(function, *values, title=name)
        else:
            title = f"{name}, order {args.order}" if args.order > 1 else name
            page = inspect.page(function, *values, order=args.order, title=title)
        page.save(args.page)
        print(args.page)
    elif args.step:
        _walk(inspect.steps(function, *values, order=args.order))
    else:
        print(inspect.program(function, *values, order=args.order))
        print()
        print(inspect.memory(function, *values, order=args.order))
    return 0


def _list_examples() -> int:
    from minimeta.inspect.examples import EXAMPLES

    for name, example in EXAMPLES.items():
        print(f"{name:<24}{example.about}")
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
