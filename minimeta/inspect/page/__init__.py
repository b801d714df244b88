"""A graph and its backward walk as one HTML file that needs nothing else: to step through, search and fold.

Python lays the drawing out and takes the walk; the page's script shows what was found and computes nothing of it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from importlib import resources
from pathlib import Path
from typing import Any

from minimeta.autodiff.transforms import ArgNums
from minimeta.inspect.page.document import Document, embedded
from minimeta.inspect.tracing import Trace, trace

#: In this order they are one script.
SCRIPTS = (
    "values.js", "model.js", "places.js", "lines.js", "nodes.js", "frames.js", "strokes.js", "dust.js", "drawing.js",
    "small.js", "panel.js", "window.js", "search.js", "page.js",
)  # fmt: skip

HEIGHT = 720
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'"


class Page:
    """A page: `html` is the whole file, `save` writes it, and a notebook shows it."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.html = _filled(content)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all."""
        from minimeta.checkpoint import write_bytes

        write_bytes(Path(file), self.html.encode("utf-8"))

    def _repr_html_(self) -> str:
        source = html.escape(self.html)
        title = html.escape(self.content["title"])
        style = f"width: 100%; height: {HEIGHT}px; border: 1px solid #8888; border-radius: 8px"
        return f'<iframe sandbox="allow-scripts" title="{title}" style="{style}" srcdoc="{source}"></iframe>'

    def __repr__(self) -> str:
        return f"Page({self.content['title']!r}, {len(self.content['nodes'])} nodes, {len(self.html):,} bytes)"


def page(
    what: Any,
    *args: Any,
    argnums: ArgNums = 0,
    order: int = 1,
    file: str | os.PathLike[str] | None = None,
    title: str | None = None,
) -> Page:
    """The page of a scalar function at its arguments, or of a traced Tensor; written to `file` if one is named.

    `what`, `args`, `argnums` and `order` are those of `minimeta.inspect.steps`. The page shows every node with its
    value, where it was made and what it holds in memory, and steps through the forward pass and the engine's own
    backward walk. Give parts of a computation names with `inspect.scope`: they become boxes that fold.

    Raises the errors of `steps`, and ValueError for a result that depends on no argument.

    >>> page(lambda x: ops.tanh(x), 0.7, title="tanh")
    Page('tanh', 2 nodes, ... bytes)
    """
    return _page(trace(what, *args, argnums=argnums, order=order), title or _name(what), file, compared=False)


def page_maml(
    meta_loss: Any,
    *args: Any,
    argnums: ArgNums = 0,
    file: str | os.PathLike[str] | None = None,
    title: str | None = None,
) -> Page:
    """A meta-loss twice, side by side: as MAML differentiates it, and as first-order MAML does.

    `meta_loss(*args)` takes gradients inside, with `minimeta.grad`. Its outermost scopes ("inner step 1", ...) are
    lanes. Edges of second order are marked on the left, and on the right they are missing, as they are when the inner
    gradients go through `stop_gradient`: both walks are the engine's, the second over what is left of the graph.

    >>> def meta_loss(w):
    ...     with minimeta.inspect.scope("inner step"):
    ...         w = w - 0.1 * minimeta.grad(lambda w: w**3)(w)
    ...     return (w - 1.0) ** 2
    >>> page_maml(meta_loss, 2.0)
    Page('meta_loss', ... nodes, ... bytes)
    """
    return _page(trace(meta_loss, *args, argnums=argnums), title or _name(meta_loss), file, compared=True)


def _page(traced: Trace, title: str, file: str | os.PathLike[str] | None, compared: bool) -> Page:
    if not len(traced.graph):
        raise ValueError("minimeta.inspect: the result does not depend on the arguments: there is no graph to show")
    made = Page(Document(traced, title, compared).content)
    if file is not None:
        made.save(file)
    return made


def _name(what: Any) -> str:
    return getattr(what, "__name__", None) or f"a graph of {type(what).__name__}"


def _filled(content: dict[str, Any]) -> str:
    """The page's file: style and script are allowed by their digests, everything else is forbidden."""
    style, script = _text("page.css"), "\n".join(_text(name) for name in SCRIPTS)
    parts = {
        "TITLE": html.escape(content["title"]),
        "POLICY": f"{NOTHING}; style-src {_digest(style)}; script-src {_digest(script)}",
        "STYLE": style,
        "SCRIPT": script,
        "CONTENT": embedded(content),
    }
    text = _text("page.html")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(text.split("@@")))


def _text(name: str) -> str:
    return resources.files("minimeta.inspect.page").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """How a content security policy names a text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
