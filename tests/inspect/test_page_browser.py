"""The page at work in a real Chromium: it says what the engine has, keys and slider work, nothing leaves the file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minimeta import inspect, ops
from minimeta.inspect.examples import EXAMPLES
from minimeta.inspect.page import page, page_maml
from minimeta.inspect.steps import Step, Steps
from minimeta.inspect.tracing import trace
from tests.inspect import browser as browsers

RIGHT, LEFT, HOME, END, ESCAPE, ENTER, DOWN = "\ue014", "\ue012", "\ue011", "\ue010", "\ue00c", "\ue007", "\ue015"

MAML, MAML_ARGS, _ = EXAMPLES["maml-sinusoid"]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    browsers.skip_without()
    with browsers.started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(name="show")
def _show(started, tmp_path):
    """Opens a page; afterwards nothing but its file may have been asked for, and the console must be silent."""
    file = tmp_path / "page.html"

    def show(made):
        made.save(file)
        started.prefer("light")
        started.open(file)
        return started

    yield show
    assert started.complaints() == []
    assert started.requests() == {file.as_uri()}


def numbers(texts: list[str]) -> np.ndarray:
    return np.array([float(text.replace("\N{MINUS SIGN}", "-").replace("∞", "inf")) for text in texts])


def section(browser: browsers.Browser, title: str) -> list[str]:
    """The entries that the panel shows under a title, one value below the other."""
    return browser.run(
        "const found = [...document.querySelectorAll('#panel section')]"
        ".filter((s) => s.querySelector('h3').textContent === arguments[0]);"
        "return found.flatMap((s) => [...s.querySelectorAll('.number, .entries span')]).map((e) => e.textContent)",
        title,
    )


def check(shown: list[str], *expected: Any) -> None:
    """As many digits as are shown: at least four."""
    np.testing.assert_allclose(numbers(shown), np.concatenate([np.ravel(x) for x in expected]), rtol=6e-4)


def shown_of(step: Step) -> Iterator[Any]:
    """What each parent is sent, and after the last of it the sum, unless that is the same."""
    last = {sent.name: sent for sent in step.contributions}
    for sent in step.contributions:
        yield sent.value
        if sent is last[sent.name] and sent.total is not sent.value:
            yield sent.total


@pytest.mark.parametrize("order", [1, 2])
def test_it_steps_through_what_the_engine_does(show, order):
    def f(x: Any) -> Any:
        y = ops.tanh(x)
        return (y * y * x * 1.5).sum()

    x = np.array([[0.7, -1.2, 0.1], [2.0, -0.3, 1.1]])
    made = page(f, x, order=order)
    traced = trace(f, x, order=order)
    browser = show(made)
    check(section(browser, "Result"), traced.value.data)
    check(section(browser, "Gradient by x"), Steps(traced).gradients()["x"])
    for k, vertex in enumerate(traced.graph, 1):
        browser.press(RIGHT)
        assert browser.text("#caption") == f"forward {k} of {len(traced.graph)}: {vertex.name}"
        assert browser.text("#panel h2").endswith(vertex.name)
        assert browser.text("#panel .expression") == f"= {vertex.expression}"
        check(section(browser, "Value"), vertex.value)
        assert browser.texts(".node.active .name") == [vertex.name]
        assert browser.count(".node.later") == len(traced.graph) - k
    for step in Steps(traced):
        browser.press(RIGHT)
        assert browser.text("#caption").endswith(f": {step.name}")
        assert browser.text("#caption").startswith(f"backward {step.number} of ")
        assert browser.texts(".node.active-backward .name") == [step.name]
        assert browser.count(".line.lit-backward") == len({sent.name for sent in step.contributions})
        check(section(browser, "Its rules"), *shown_of(step))
        rules = list(dict.fromkeys(sent.source for sent in step.contributions))
        assert browser.texts("#panel pre") == [rule.text for rule in rules]
        assert browser.texts("#panel section p.place") == [str(rule) for rule in rules]
        check(section(browser, "Cotangent")[-step.cotangent.size :], step.cotangent)
    browser.press(RIGHT)  # it stays at the end
    assert browser.text("#caption").startswith("backward")
    browser.press(HOME)
    assert browser.text("#caption") == "the whole graph"
    browser.press(END, LEFT)
    assert browser.text("#caption").startswith(f"backward {len(made.content['steps']) - 1} of ")


def test_running_sums_show_each_contribution_and_the_sum_so_far(show):
    made = page(lambda x: ops.exp(x) * x + x, 0.5)
    browser = show(made)
    browser.press(END)
    browser.click(".node.input")
    e = np.exp(0.5)
    check(section(browser, "Cotangent"), 1.0, e, 1 + e, e * 0.5, 1 + 1.5 * e)
    browser.press(LEFT)
    browser.click(".node.input")
    check(section(browser, "Cotangent"), 1.0, e, 1 + e)
    assert "1 of 3 still to come" in browser.text("#panel")
    browser.press(ESCAPE)
    assert browser.text("#panel h2").endswith("multiply_1")


def test_the_slider_and_the_buttons_step(show):
    made = page(MAML, *MAML_ARGS)
    browser = show(made)
    count = len(made.content["nodes"])
    browser.step(count + 3)
    assert browser.text("#caption").startswith("backward 3 of ")
    captions = {"#next": "backward 4", "#back": "backward 3", "#last": "backward", "#first": "the whole graph"}
    for button, caption in captions.items():
        browser.find(button).click()
        assert browser.text("#caption").startswith(caption)
    browser.find("#slider").send_keys(RIGHT, RIGHT)
    assert browser.text("#caption").startswith("forward 2 of ")
    browser.find("#graph").send_keys(" ")
    assert browser.find("#play").get_attribute("aria-label") == "Pause"
    browser.driver.implicitly_wait(3)
    browser.find("#play.playing")
    assert browser.find(".node.active[data-node='2']")  # played on to the third
    browser.driver.implicitly_wait(0)
    browser.find("#graph").send_keys(" ")
    assert browser.find("#play").get_attribute("aria-label") == "Play"


def test_the_window_moves_to_the_active_node(show):
    made = page(MAML, *MAML_ARGS)
    browser = show(made)
    browser.prefer("light", motion="no-preference")
    for step in (5, 60, 20, 150, 40):  # the next one comes while the window still moves
        browser.step(step)
    browser.driver.implicitly_wait(3)
    browser.find(f"#scene[transform*='scale({browser.run('return look.current.scale.toFixed(4)')})']")
    browser.driver.implicitly_wait(0)
    stage, node = browser.find("#stage").rect, browser.boxes(".node.active")["39"]
    assert stage["x"] < node[0] < node[2] < stage["x"] + stage["width"]
    assert stage["y"] < node[1] < node[3] < stage["y"] + stage["height"]


def overlap(a: Any, b: Any) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[1], b[1]) > 0.5


def check_drawing(browser: browsers.Browser, made: Any) -> None:
    """No two nodes or folded boxes overlap, and each lies in the frames of its scopes."""
    nodes, folded = browser.boxes(".node"), browser.boxes(".handles .folded [data-box]")
    for a, b in itertools.combinations([*folded.values(), *nodes.values()], 2):
        assert not overlap(a, b)
    frames = dict(browser.run(
        "return scene.boxes.filter(({ number }) => STATE.open[number]).map(({ number }) => {"
        " const r = drawn.get(`0f${number}`).getBoundingClientRect();"
        " return [number, [r.left, r.top, r.right, r.bottom]]; })"
    ))  # fmt: skip
    for number, (left, top, right, bottom) in frames.items():
        inside = [str(member) for is_box, member in made.content["boxes"][number]["members"] if not is_box]
        assert inside
        for node in inside:
            a = nodes[node]
            assert left <= a[0] < a[2] <= right
            assert top <= a[1] < a[3] <= bottom


def test_boxes_fold_and_open(show):
    made = page(MAML, *MAML_ARGS)
    browser = show(made)
    count = len(made.content["nodes"])
    assert browser.count(".node") == count
    check_drawing(browser, made)
    handle = browser.find("[data-box='1']")
    assert handle.get_attribute("aria-expanded") == "true"
    browser.run("arguments[0].focus()", handle)
    browser.press(ENTER)
    inside = sum(node["scopes"] == ["inner step 1"] for node in made.content["nodes"])
    assert browser.count(".node") == count - inside
    assert f"{inside} nodes" in browser.text(".folded .facts")
    assert browser.run("return document.activeElement.dataset.box") == "1"  # the focus stays
    check_drawing(browser, made)
    browser.press(ENTER)
    assert browser.count(".node") == count
    browser.find("#unfold").click()
    assert browser.count(".node") == sum(not node["scopes"] for node in made.content["nodes"])
    check_drawing(browser, made)
    browser.press("o")
    assert browser.count(".node") == count
    check_drawing(browser, made)


def test_a_box_that_opens_moves_its_neighbours_aside(show):
    def branches(x: Any) -> Any:
        start, parts = x, []
        for name in ("left", "middle", "right"):
            x = start
            with inspect.scope(name):
                for _ in range(10):  # so many that they are folded at first
                    x = ops.tanh(x) * ops.sin(x) + ops.cos(x) * ops.exp(-x)
                parts.append(x.sum())
        return parts[0] * parts[1] + parts[2]

    made = page(branches, np.ones(2))
    browser = show(made)
    check_drawing(browser, made)
    numbers = [number for number, box in enumerate(made.content["boxes"]) if box["kind"] == "scope"]
    assert len(numbers) == browser.count(".box.folded") == 3
    for number in (*numbers, *numbers):  # opened one after the other, and folded again
        browser.click(f"[data-box='{number}']")
        browser.press("f")  # only what is in the window is in the document
        check_drawing(browser, made)


def test_a_step_opens_the_box_it_is_in_and_folds_it_again(show):
    made = page(MAML, *MAML_ARGS)
    browser = show(made)
    browser.find("#unfold").click()
    first, second = (
        next(i for i, node in enumerate(made.content["nodes"]) if node["scopes"] == [f"inner step {k}"]) for k in (1, 2)
    )
    browser.step(first + 1)
    assert browser.find(f".node.active[data-node='{first}']").is_displayed()
    browser.step(second + 1)
    assert browser.find(f".node.active[data-node='{second}']").is_displayed()
    assert browser.count(f"[data-node='{first}']") == 0
    browser.find("#follow").click()
    browser.step(first + 1)
    assert browser.count(".node.active") == 0
    assert browser.count(".box.folded.active") == 1  # the folded box shows it


def test_search_finds_a_node_and_goes_there(show):
    made = page(MAML, *MAML_ARGS)
    browser = show(made)
    browser.find("#unfold").click()
    browser.press("/")
    browser.press("tanh_2")
    assert browser.texts("#found li b")[0] == "tanh_2"
    browser.press(ENTER)
    assert browser.text("#panel h2").endswith("tanh_2")
    assert browser.texts(".node.selected .name") == ["tanh_2"]
    left, top, right, bottom = next(iter(browser.boxes(".node.selected").values()))
    x, y, width, height = (browser.find("#stage").rect[key] for key in ("x", "y", "width", "height"))
    assert x < left < right < x + width
    assert y < top < bottom < y + height
    browser.press("/")
    browser.press("query loss", DOWN, ENTER)
    assert browser.count("#panel h2") == 1
    browser.press("/", "no such thing")
    assert browser.texts("#found li") == ["nothing found"]
    browser.press(ESCAPE)
    assert not browser.find("#found").is_displayed()


def test_the_keys_are_told(show):
    browser = show(page(ops.tanh, 0.7))
    browser.press("?")
    assert browser.find("#keys").is_displayed()
    browser.press(RIGHT)  # meant for the dialog, not for the steps
    assert browser.text("#caption") == "the whole graph"
    browser.find("#keys button").click()
    assert not browser.find("#keys").is_displayed()
    browser.find("#help").click()
    browser.press(ESCAPE)
    assert not browser.find("#keys").is_displayed()
    browser.find("#graph").send_keys(RIGHT)
    assert browser.text("#caption") == "forward 1 of 2: x"


def test_zoom_and_drag(show):
    browser = show(page(MAML, *MAML_ARGS))
    where = "return [STATE.camera.x, STATE.camera.y, STATE.camera.scale]"
    x, y, scale = browser.run(where)
    browser.press("+", "+")
    assert browser.run(where)[2] == pytest.approx(scale * 1.25**2)
    browser.press("-", "f")
    assert browser.run(where) == pytest.approx([x, y, scale])
    stage = browser.find("#graph")
    above = 20 - stage.rect["height"] // 2  # between the buttons and the drawing
    actions = browser.actions().move_to_element_with_offset(stage, 200, above).click_and_hold()
    actions.move_by_offset(-40, 25).release().perform()
    assert browser.run(where) == pytest.approx([x - 40, y + 25, scale])
    assert browser.text("#caption") == "the whole graph"  # dragging chooses nothing


def brightness(browser: browsers.Browser, selector: str, what: str) -> float:
    colour = browser.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, what)
    return sum(float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3])


def test_light_and_dark(show):
    browser = show(page(ops.tanh, 0.7))
    for scheme, dark in (("light", False), ("dark", True)):
        browser.prefer(scheme)
        assert (brightness(browser, "body", "backgroundColor") < 200) == dark
        assert (brightness(browser, ".node .name", "fill") > 500) == dark
        browser.press("d")  # the other one, whatever the system prefers
        assert (brightness(browser, "body", "backgroundColor") < 200) != dark
        browser.find("#theme").click()
        browser.run("delete document.documentElement.dataset.theme")


def test_values_as_maps_and_histograms_and_colours(show):
    made = page(lambda x: ops.log(x).sum(), np.linspace(0.1, 5, 200).reshape(10, 20))
    browser = show(made)
    browser.step(2)
    assert browser.count("#panel .map path") > 3
    browser.choose("#values", "map")
    assert browser.count(".node .map") == 2
    browser.choose("#values", "bars")
    assert browser.count(".node .bars") == 2
    assert browser.count("#panel .bars path") == 1
    browser.choose("#colour", "bytes")
    assert browser.texts(".node .shape") == ["", "1.6 kB", ""]
    assert browser.count(".node.weight6") == 1
    browser.choose("#colour", "finite")
    assert browser.texts(".node .sign") == ["✓"] * 3


def test_what_is_not_finite_is_seen(show):
    with np.errstate(all="ignore"):
        made = page(lambda x: (ops.log(x) * 2.0).sum(), np.array([1.0, 0.0, -1.0]))
    browser = show(made)
    browser.step(2)
    np.testing.assert_array_equal(numbers(section(browser, "Value")), [0.0, -np.inf, np.nan])
    assert "1 NaN, 1 Inf" in browser.text("#panel")
    browser.choose("#colour", "finite")
    assert browser.count(".node.bad") == 4
    assert set(browser.texts(".node.bad .sign")) == {"!"}


HOSTILE = "</script><script>window.broken=1</script><img src=x onerror='window.broken=1'>\u2028\"&amp;"


def test_names_are_shown_as_text(show):
    def f(params: Any) -> Any:
        with inspect.scope(HOSTILE):
            return params[HOSTILE] * params[HOSTILE]

    browser = show(page(f, {HOSTILE: 2.0}, title=HOSTILE))
    assert browser.text("#title") == HOSTILE
    assert browser.driver.title.startswith("</script><script>")
    assert browser.text(".handle title").startswith(HOSTILE)
    browser.press(RIGHT)
    assert browser.text("#panel h2").endswith(f"params[{HOSTILE!r}]")
    assert repr(HOSTILE)[:10] in browser.text(".node .name") or browser.text(".node .name").startswith("params[")
    browser.press("/", "img")
    assert browser.texts("#found li b")[0] == HOSTILE
    browser.press(ESCAPE)
    browser.press(END)
    assert HOSTILE in browser.text("#panel")  # the scope
    assert browser.count("img") == 0
    assert browser.count("script") == 2
    assert browser.run("return window.broken") is None


def test_first_order_maml_is_the_same_picture_without_the_second_order_edges(show):
    made = page_maml(MAML, *MAML_ARGS)
    browser = show(made)
    needs = [need for node in made.content["nodes"] for need in node["needs"]]
    marked = sum(kind == 2 for _, _, kind in needs)
    assert f"{marked} second-order edges" in browser.text(".pane-fact")
    assert len(browser.texts(".pane-name")) == 2
    lines = {  # of different nodes: one line where a node needs another twice
        (child, parent, kind) for child, node in enumerate(made.content["nodes"]) for parent, _, kind in node["needs"]
    }
    left, right = (
        [name.split()[1] for name in browser.classes(f".line{which}")] for which in (":not([transform])", "[transform]")
    )
    assert left.count("kind2") == sum(kind == 2 for *_, kind in lines)
    assert left.count("kind1") == right.count("kind1") == sum(kind == 1 for *_, kind in lines)
    assert len(right) == len(left) - left.count("kind2")
    assert "kind2" not in right
    places = browser.boxes(".node:not([data-first])")
    others = browser.boxes(".node[data-first]")
    moves = {(round(box[0] - places[key][0]), round(box[1] - places[key][1])) for key, box in others.items()}
    assert len(others) == len(places)
    assert len(moves) == 1  # the same picture, beside
    gone = {int(node) for node in browser.boxes(".node.gone")}
    walked = {step["node"] for step in made.content["first"]}
    assert not gone & walked
    assert gone >= {i for i, node in enumerate(made.content["nodes"]) if node["order"]}
    browser.press(END)
    browser.press("/", "weights['w1']", ENTER)
    titles = browser.texts("#panel h3")
    assert "Cotangent: MAML" in titles
    assert "Cotangent: First-order MAML" in titles
    first = trace(lambda *args: MAML(*args, order=1), *MAML_ARGS)
    check(section(browser, "Cotangent: First-order MAML"), Steps(first).gradients()["args[0]['w1']"])
    check(section(browser, "Cotangent: MAML")[-4:], inspect.steps(MAML, *MAML_ARGS).gradients()["weights['w1']"])


def test_five_thousand_nodes(show):
    weights = {"w": np.eye(3) * 0.9, "b": np.zeros(3)}

    def recurrent(weights: Any) -> Any:
        h, total = np.ones((2, 3)), 0.0
        for time in range(470):
            with inspect.scope(f"hundred {time // 100}"), inspect.scope(f"time {time}"):
                for _ in range(3):
                    h = ops.tanh(h @ weights["w"] + weights["b"])
                total = total + h.mean()
        return total

    made = page(recurrent, weights)
    assert len(made.content["nodes"]) > 5000
    browser = show(made)
    assert browser.count("#scene *") < 500
    browser.step(2500)
    name = made.content["nodes"][2499]["name"]
    assert browser.texts(".node.active .name") == [name]
    assert browser.count("#scene *") < 4000
    browser.step(7500)
    assert browser.count(".node.active-backward") == 1
    browser.press("f")
    browser.find("#unfold").click()  # all of them: only those in the window are in the document when one comes near
    browser.press("/", name, ENTER)
    assert browser.texts(".node.selected .name") == [name]
    assert browser.count(".node") < 400


def test_a_notebook_shows_it(started, tmp_path):
    file = tmp_path / "notebook.html"
    file.write_text(f"<!DOCTYPE html><title>a notebook</title>{page(ops.tanh, 0.7)._repr_html_()}", encoding="utf-8")
    started.open(file)
    started.driver.switch_to.frame(started.find("iframe"))
    assert started.texts(".node .name") == ["x", "tanh_1"]
    started.find("#graph").send_keys(RIGHT)
    assert started.text("#caption") == "forward 1 of 2: x"
    started.driver.switch_to.default_content()
    assert started.complaints() == []
    assert started.requests() == {file.as_uri()}
