"""What a page says is what the engine has: values, sums, edges of either order, and every name as plain text."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minimeta import data, grad, inspect, learners, ops, stop_gradient
from minimeta.inspect.examples import EXAMPLES, maml_sinusoid
from minimeta.inspect.page import SCRIPTS, Page, page, page_maml
from minimeta.inspect.page.document import embedded
from minimeta.inspect.page.first_order import first_order, ways
from minimeta.inspect.page.values import LETTERS, LEVELS, Detail, encode
from minimeta.inspect.steps import Steps
from minimeta.inspect.tracing import Trace, trace
from tests.autodiff.random_programs import points, run

FULL = Detail(10_000, 16, 16)


def decoded(content: dict[str, Any], place: int) -> np.ndarray:
    return np.array([float(x) for x in content["values"][place]["entries"]])


def same(content: dict[str, Any], place: int, expected: Any) -> None:
    np.testing.assert_allclose(decoded(content, place), np.asarray(expected).ravel(), rtol=1e-8, atol=0)


@settings(max_examples=40)
@given(points(1), st.integers(1, 2))
def test_it_says_what_the_engine_has(drawn, order):
    program, x = drawn

    def f(x: Any) -> Any:
        return run(program, ops, x)

    traced = trace(f, x, order=order)
    assume(len(traced.graph))
    content = page(f, x, order=order).content
    same(content, content["result"], traced.value.data)
    for node, vertex in zip(content["nodes"], traced.graph, strict=True):
        assert (node["name"], node["expression"]) == (vertex.name, vertex.expression)
        assert (node["type"], node["order"]) == (vertex.type, vertex.origin.order)
        same(content, node["value"], vertex.value)
    sums: dict[int, np.ndarray] = {}
    for written, step in zip(content["steps"], Steps(traced), strict=True):
        assert content["nodes"][written["node"]]["name"] == step.name
        same(content, written["cotangent"], step.cotangent)
        for entry, sent in zip(written["sent"], step.contributions, strict=True):
            same(content, entry["value"], sent.value)
            same(content, entry["total"], sent.total)
            sums[entry["to"]] = sums.get(entry["to"], 0) + decoded(content, entry["value"])
            assert content["rules"][entry["rule"]] == [str(sent.source), sent.source.text]
    for written in content["steps"]:  # what a node was sent adds up to its cotangent
        if written["node"] in sums:
            whole = decoded(content, written["cotangent"])
            np.testing.assert_allclose(whole, sums[written["node"]], rtol=1e-6, atol=1e-9)
    if content["targets"]:
        gradient = grad(f)(x) if order == 1 else grad(lambda x: grad(f)(x).sum())(x)
        np.testing.assert_allclose(sums.get(content["targets"][0], 0 * x), np.ravel(gradient), rtol=1e-6, atol=1e-9)


SHAPES = st.sampled_from([(), (3,), (4, 1), (2, 3), (2, 2, 2), (0,)])


@given(arrays(np.float64, SHAPES, elements=st.floats(allow_subnormal=False)))
def test_any_array_can_be_shown(array):
    """NaN, infinities, and numbers whose squares or differences no float holds; without a warning."""
    shown = encode(array, FULL)
    json.dumps(shown, allow_nan=False)
    np.testing.assert_allclose([float(x) for x in shown["entries"]], array.ravel(), rtol=1e-8, atol=0)
    finite = array[np.isfinite(array)]
    assert shown.get("nan", 0) == np.isnan(array).sum()
    assert shown.get("inf", 0) == np.isinf(array).sum()
    if "bars" in shown:
        assert sum(shown["bars"]) == finite.size
        assert float(shown["low"]) <= float(shown["mean"]) * (1 + 1e-8 * np.sign(float(shown["mean"]))) + 1e-300
        assert [float(shown["low"]), float(shown["high"])] == pytest.approx([finite.min(), finite.max()], rel=1e-8)


@given(arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(2, 40)), elements=st.floats(-8, 8, width=32)))
def test_a_map_is_made_of_means(array):
    shown = encode(array, Detail(0, 6, 4))
    top = np.abs(array).max()
    rows = np.array_split(array.astype(float), min(len(array), 6))  # of nearly equal length, in some order of lengths
    assert len(shown["map"]) == min(len(array), 6) * shown["columns"]
    cells = np.array([LETTERS.index(letter) for letter in shown["map"]]) - LEVELS
    assert np.abs(cells).max(initial=0) <= LEVELS
    if array.shape == (len(rows), shown["columns"]):  # nothing is averaged
        np.testing.assert_allclose(cells, np.ravel(array) / (top or 1) * LEVELS, atol=0.5 + 1e-6)


def test_a_block_with_a_nan_is_marked():
    array = np.ones((40, 40))
    array[39, 0] = np.nan
    shown = encode(array, Detail(64, 4, 4))
    assert shown["map"] == "9-"[1:] * 12 + "!" + "-" * 3
    assert shown["nan"] == 1


def test_large_graphs_make_small_files():
    def f(x: Any) -> Any:
        for _ in range(1250):
            x = ops.tanh(x * 1.01 + x) - 0.1
        return x.sum()

    made = page(f, np.random.default_rng(0).normal(size=(40, 50)))
    assert len(made.content["nodes"]) > 5000
    assert len(made.html) < 10_000_000


# Edges of second order.


def first_order_edges(traced: Trace) -> list[tuple[str, int, str]]:
    """The edges that a first-order method walks, with nodes by operation and place among them."""
    graph = traced.graph
    found = ways(graph, traced.reach())
    edges = found.all - found.second
    numbers = {number for number, _ in edges}
    parents = {(number, i): graph.by_number[number].node.parents[i] for number, i in edges}
    numbers |= {parent.number for parent in parents.values() if parent is not None}
    place = {number: k for k, number in enumerate(sorted(numbers))}
    op = graph.by_number
    return sorted(
        (f"{op[number].node.op.name} {place[number]}", i, f"{op[parent.number].node.op.name} {place[parent.number]}")
        for (number, i), parent in parents.items()
        if parent is not None
    )


def first_order_gradients(traced: Trace) -> dict[str, np.ndarray]:
    walk = Steps(traced, first_order(traced.graph, traced.reach()))
    return {name: np.asarray(g) for name, g in walk.gradients().items()}


def check_is_first_order(second: Trace, first: Trace) -> None:
    """`second` without its second-order edges is `first`, whose inner gradients are constants, in edges and numbers."""
    assert first_order_edges(second) == first_order_edges(first)
    ours = ways(second.graph, second.reach())
    theirs = ways(first.graph, first.reach())
    assert ours.second
    assert not theirs.second
    assert theirs.all == theirs.first
    expected = Steps(first).gradients()
    for name, gradient in first_order_gradients(second).items():
        np.testing.assert_array_equal(gradient, expected[name])


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_first_order_maml_is_maml_without_the_marked_edges(inner_steps):
    _, args, _ = EXAMPLES["maml-sinusoid"]

    def of_order(order: int) -> Trace:
        def meta_loss(*args: Any) -> Any:
            return maml_sinusoid(*args, inner_steps=inner_steps, order=order)

        return trace(meta_loss, *args)

    check_is_first_order(of_order(2), of_order(1))


def test_so_it_is_with_the_learner():
    waves = data.SinusoidSampler(shot=4, query=3).batch(first=0, tasks=2)

    def of_order(order: int) -> Trace:
        learner = learners.make(
            "maml", way=0, architecture="regressor", batch_norm="none", inner_lr=(0.01,), inner_steps=2, order=order
        )
        return trace(lambda params: learner.meta_loss(params, waves)[0], learner.init(np.random.default_rng(0)))

    check_is_first_order(of_order(2), of_order(1))


def test_an_edge_that_is_no_detour_through_derivatives_stays():
    """y = x - grad(x^3)(x): x comes in directly, and through the inner gradient."""

    def f(x: Any) -> Any:
        return x * 2.0 - grad(lambda x: x**3)(x)

    content = page_maml(f, 2.0).content
    kinds = {
        (node["name"], content["nodes"][parent]["name"]): kind
        for node in content["nodes"]
        for parent, _, kind in node["needs"]
    }
    assert kinds["subtract_1", "multiply_1"] == kinds["multiply_1", "x"] == 1
    assert kinds["alias_1", "x"] == 2
    for walk, gradient in (("steps", 2.0 - 12.0), ("first", 2.0)):
        sent = [sent["value"] for step in content[walk] for sent in step["sent"] if sent["to"] == 0]
        assert sum(decoded(content, value).item() for value in sent) == gradient


def test_without_inner_gradients_nothing_is_marked():
    content = page_maml(lambda x: stop_gradient(x) * x, 2.0).content
    assert {kind for node in content["nodes"] for _, _, kind in node["needs"]} == {1}
    assert content["steps"] == content["first"]


# Names.

HOSTILE = [
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'`&amp;", "\u2028\u2029", "]]>",
    "@@SCRIPT@@",
]  # fmt: skip


@given(st.one_of(st.sampled_from(HOSTILE), st.text()))
def test_no_name_leaves_the_element_it_is_in(name):
    text = embedded({"name": name})
    assert json.loads(text) == {"name": name}
    assert not set(text) & set("<>&\u2028\u2029")
    assert text.isascii()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_holds_names_as_json_alone(name):
    def f(params: Any) -> Any:
        with inspect.scope(name):
            return params[name] * params[name]

    made = page(f, {name: 2.0}, title=name)
    start = made.html.index('<script type="application/json" id="content">')
    end = made.html.index("</script>", start)
    content = json.loads(made.html[start:end].partition(">")[2])
    assert content == made.content
    assert content["nodes"][0]["name"] == f"params[{name!r}]"
    assert f"<title>{html.escape(name)}</title>" in made.html
    outside = made.html[:start] + made.html[end:]
    plain = page(lambda x: x * x, 2.0, title="plain").html
    assert outside.count("<") + 1 == plain.count("<")  # without the one that begins the element: no element more


# The page as a file and in a notebook.


def test_it_is_written_whole_and_shown_in_a_notebook(tmp_path):
    file = tmp_path / "walk.html"
    made = page(lambda x: ops.tanh(x), 0.7, file=file, title='a "quoted" <title>')
    assert file.read_text(encoding="utf-8") == made.html
    assert [path.name for path in tmp_path.iterdir()] == ["walk.html"]
    frame = made._repr_html_()
    assert frame.startswith('<iframe sandbox="allow-scripts" title="a &quot;quoted&quot; &lt;title&gt;"')
    assert html.unescape(frame.partition('srcdoc="')[2].removesuffix('"></iframe>')) == made.html


def test_all_parts_of_the_script_are_in_the_page():
    scripts = {path.name for path in Path(page.__code__.co_filename).parent.glob("*.js")}
    assert scripts == set(SCRIPTS)
    assert len(scripts) == len(SCRIPTS)


def test_it_names_what_it_shows():
    assert page(ops.tanh, 0.7).content["title"] == "tanh"
    assert isinstance(page(ops.tanh, 0.7), Page)
    assert repr(page_maml(lambda x: x * x, 0.7)).startswith("Page('<lambda>', 2 nodes, ")


def test_a_graph_without_variables_has_no_steps():
    shown: list[Page] = []

    def f(x: Any) -> Any:
        y = ops.tanh(x)
        shown.append(page(y))
        return y

    grad(f)(1.0)
    (made,) = shown
    assert made.content["steps"] == []
    assert [node["value"] is not None for node in made.content["nodes"]] == [False, True]  # nobody recorded the input's


@pytest.mark.parametrize("order", [1, 2, 3])
def test_sites_are_the_users_lines_in_backward_passes_too(order):
    content = page(lambda x: ops.tanh(x), 0.7, order=order).content
    sites = {content["sites"][node["site"]][0].rpartition(":")[0] for node in content["nodes"] if not node["input"]}
    assert {Path(site).name for site in sites} == {Path(__file__).name}


def test_held_memory_is_counted_once():
    content = page(lambda x: (ops.exp(x) * ops.tanh(x)).sum(), np.ones(4)).content
    by_name = {node["name"]: node for node in content["nodes"]}
    assert by_name["exp_1"]["bytes"] == by_name["tanh_1"]["bytes"] == 32
    roles = {(role, nbytes, first) for role, nbytes, first in by_name["multiply_1"]["held"]}
    numbers = {name: i for i, name in enumerate(by_name)}
    assert roles == {("x1", 32, numbers["exp_1"]), ("x2", 32, numbers["tanh_1"])}
    assert by_name["multiply_1"]["bytes"] == 0


@pytest.mark.parametrize(
    ("what", "error"), [(3, TypeError), (lambda x: x * np.ones(2), ValueError), (lambda x: 1.0, ValueError)]
)
def test_errors_are_those_of_steps(what, error):
    with pytest.raises(error):
        page(what, 1.0)
