"""Nets in PyTorch's layout against ours: written once in plain NumPy, once more in PyTorch where that is installed."""

import numpy as np
import pytest

from minimeta import layers, learners, ops, tree
from minimeta.checkpoint import from_torch_layout

RNG = np.random.default_rng(0)
IMAGES = RNG.random((6, 2, 14, 14), np.float32)  # N, C, H, W


def drawn(*shape):
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def block(name, inputs, filters, bias=True):
    """A convolution and its batch norm as state_dict() lists them, `name`.0 and `name`.1."""
    return {
        f"{name}.0.weight": drawn(filters, inputs, 3, 3),
        **({f"{name}.0.bias": drawn(filters)} if bias else {}),
        f"{name}.1.weight": drawn(filters),
        f"{name}.1.bias": drawn(filters),
        f"{name}.1.running_mean": drawn(filters),
        f"{name}.1.running_var": drawn(filters) ** 2 + np.float32(0.1),
        f"{name}.1.num_batches_tracked": np.array(7),
    }


def linear(name, inputs, outputs):
    return {f"{name}.weight": drawn(outputs, inputs), f"{name}.bias": drawn(outputs)}


def convolve(x, tensors, name, padding):
    """The definition, in float64."""
    weight = tensors[f"{name}.weight"].astype(float)
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    side = x.shape[2] - weight.shape[2] + 1
    y = np.zeros((len(x), len(weight), side, side))
    for i, j in np.ndindex(side, side):
        window = x[:, :, i : i + weight.shape[2], j : j + weight.shape[3]]
        y[:, :, i, j] = np.tensordot(window, weight, axes=((1, 2, 3), (1, 2, 3)))
    bias = tensors.get(f"{name}.bias")
    return y if bias is None else y + bias[:, None, None]


def normalise(x, tensors, name, training):
    gamma, beta, mean, var = (
        tensors.get(f"{name}.{kind}") for kind in ("weight", "bias", "running_mean", "running_var")
    )
    if training:
        mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    scale = (gamma / np.sqrt(var + 1e-5))[:, None, None]
    return (x - mean[:, None, None]) * scale + beta[:, None, None]


def pool(x):
    side = x.shape[2] // 2
    return x[:, :, : 2 * side, : 2 * side].reshape(*x.shape[:2], side, 2, side, 2).max(axis=(3, 5))


def conv_net(x, tensors, names, training):
    for name in names:
        x = pool(np.maximum(normalise(convolve(x, tensors, f"{name}.0", 1), tensors, f"{name}.1", training), 0))
    return x


def dense(x, tensors, name):
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def ours(x):
    """N, C, H, W -> T, N, H, W, C."""
    return np.moveaxis(x, 1, -1)[None]


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def conv_net_like(channels, filters, blocks):
    net = layers.conv_net_init(np.random.default_rng(1), channels, filters, blocks)
    return {"net": net, "running": layers.running_init(net)}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_conv_blocks_with_a_linear_layer_on_their_flattened_maps(training, bias):
    tensors = {**block("a", 2, 3, bias), **block("b", 3, 4, bias), **linear("head", 4 * 3 * 3, 5), **linear("z", 5, 2)}
    like = conv_net_like(2, 3, 1)
    second = layers.conv_block_init(np.random.default_rng(1), 3, 4)
    like["net"]["conv2"] = second
    like["running"] |= layers.running_init({"conv2": second})
    like["fc"] = {"one": {"w": zeros(36, 5), "b": zeros(5)}, "two": {"b": zeros(2), "w": zeros(5, 2)}}
    params = from_torch_layout(tensors, like)
    tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype) or pytest.fail(f"{a.shape} {a.dtype}"), params, like)

    features, _ = layers.conv_net(params["net"], ours(IMAGES), None if training else params["running"])
    got = layers.linear(params["fc"]["two"], layers.linear(params["fc"]["one"], features))
    maps = conv_net(IMAGES, tensors, ("a", "b"), training)
    close(got[0], dense(dense(maps.reshape(len(maps), -1), tensors, "head"), tensors, "z"))


def small_net(params, x):
    x = ops.relu(ops.conv2d(x, params["conv1"]["w"]) + params["conv1"]["b"])
    x = ops.max_pool2d(ops.conv2d(x, params["conv2"]["w"]) + params["conv2"]["b"])
    x = ops.relu(layers.linear(params["fc1"], x.reshape(*x.shape[:2], -1)))
    return layers.linear(params["fc2"], x)[0]


SMALL = {
    "conv1": {"w": zeros(5, 5, 2, 3), "b": zeros(3)},
    "conv2": {"w": zeros(3, 3, 3, 4), "b": zeros(4)},
    "fc1": {"w": zeros(64, 9), "b": zeros(9)},
    "fc2": {"w": zeros(9, 1), "b": zeros()},
}
SMALL_TENSORS = {
    "0.weight": drawn(3, 2, 5, 5), "0.bias": drawn(3), "2.weight": drawn(4, 3, 3, 3), "2.bias": drawn(4),
    **linear("5", 64, 9), **linear("7", 9, 1),
}  # fmt: skip


def test_convolutions_with_bias_then_linear_layers_of_which_one_has_a_single_bias():
    params = from_torch_layout(SMALL_TENSORS, SMALL)
    x = np.maximum(convolve(IMAGES, SMALL_TENSORS, "0", 0), 0)
    x = pool(convolve(x, SMALL_TENSORS, "2", 0)).reshape(6, -1)
    close(small_net(params, ours(IMAGES)), dense(np.maximum(dense(x, SMALL_TENSORS, "5"), 0), SMALL_TENSORS, "7"))


def test_a_linear_layer_on_maps_of_one_pixel_or_averaged_reads_them_as_they_are():
    like = {"conv": {"w": zeros(1, 1, 2, 4), "b": zeros(4)}, "fc": {"w": zeros(4, 3), "b": zeros(3)}}
    tensors = {"c.weight": drawn(4, 2, 1, 1), "c.bias": drawn(4), **linear("f", 4, 3)}
    np.testing.assert_array_equal(from_torch_layout(tensors, like)["fc"]["w"], tensors["f.weight"].T)


def test_a_siamese_networks_alpha_is_a_linear_layer():
    learner = learners.make("siamese", filters=2, size=16, blocks=2)
    tensors = {**block("a", 1, 2), **block("b", 2, 2), **linear("same", 32, 1)}
    params = from_torch_layout(tensors, learner.init(np.random.default_rng(0)))
    expected = tensors["same.weight"].reshape(2, 16).T.reshape(32, 1)  # 16 pixels of 2 channels
    np.testing.assert_array_equal(params["same"]["alpha"], expected)


CONV2 = conv_net_like(1, 2, 2)
CONV2_TENSORS = {**block("layer1", 1, 2), **block("layer2", 2, 2)}


def without(tensors, *kinds):
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(kinds)}


def test_running_statistics_that_the_net_has_not_are_those_of_like():
    like = {**CONV2, "running": tree.map(lambda leaf: leaf + 3, CONV2["running"])}
    params = from_torch_layout(without(CONV2_TENSORS, "running_mean", "running_var"), like)
    tree.map(np.testing.assert_array_equal, params["running"], like["running"])
    some = {name: tensor for name, tensor in CONV2_TENSORS.items() if not name.startswith("layer1.1.running")}
    running = from_torch_layout(some, like)["running"]
    np.testing.assert_array_equal(running["conv1"]["mean"], like["running"]["conv1"]["mean"])
    np.testing.assert_array_equal(running["conv2"]["var"], CONV2_TENSORS["layer2.1.running_var"])


def test_running_statistics_that_like_has_not_are_dropped():
    assert from_torch_layout(CONV2_TENSORS, {"net": CONV2["net"]}).keys() == {"net"}
    assert from_torch_layout(CONV2_TENSORS, {**CONV2, "running": {}})["running"] == {}


def test_nothing_is_shared_and_nothing_written_to():
    like, tensors = tree.map(np.copy, CONV2), tree.map(np.copy, CONV2_TENSORS)
    params = from_torch_layout(tensors, like)
    for leaf in tree.leaves(params):
        leaf[:] = 9
    tree.map(np.testing.assert_array_equal, like, CONV2)
    tree.map(np.testing.assert_array_equal, tensors, CONV2_TENSORS)


def test_the_order_within_a_module_does_not_matter_nor_does_the_number_format():
    expected = from_torch_layout(CONV2_TENSORS, CONV2)
    by_name = {name: CONV2_TENSORS[name].astype(float) for name in sorted(CONV2_TENSORS)}
    params = from_torch_layout(by_name, CONV2)
    tree.map(np.testing.assert_array_equal, params, expected)
    assert {leaf.dtype for leaf in tree.leaves(params)} == {np.dtype(np.float32)}


def test_modules_sorted_as_text_are_refused():
    names = {name: name.replace("layer2", "layer10").replace("layer1.", "layer2.") for name in CONV2_TENSORS}
    in_order = {names[name]: tensor for name, tensor in CONV2_TENSORS.items()}
    from_torch_layout(in_order, CONV2)
    with pytest.raises(
        ValueError, match=r"layer10\.0, layer10\.1, layer2\.0, layer2\.1: sorted by name; need the order"
    ):
        from_torch_layout({name: in_order[name] for name in sorted(in_order)}, CONV2)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {**CONV2_TENSORS, "layer1.0.weight": zeros(3, 1, 3, 3)},
            r"tensor layer1.0.weight of shape \(3, 1, 3, 3\) does not fit net/conv1/w, "
            r"which needs a weight of shape \(2, 1, 3, 3\)",
        ),
        (
            {**CONV2_TENSORS, "layer2.0.bias": zeros(3)},
            r"tensor layer2.0.bias of shape \(3,\) does not fit running/conv2/mean, which needs a bias of shape \(2,\)",
        ),
        (
            {**CONV2_TENSORS, "layer1.1.running_var": zeros(3)},
            r"layer1.1.running_var of shape \(3,\) does not fit running/conv1/var, which needs a running_var of shape",
        ),
        (
            without(CONV2_TENSORS, "1.running_var"),
            r"layer2.0.weight of shape \(2, 2, 3, 3\) does not fit running/conv1/var, which needs a running_var",
        ),
        (
            without(CONV2_TENSORS, "layer1.1.weight", "layer2.1.weight"),
            r"layer1.1.bias of shape \(2,\) does not fit net/conv1/gamma, which needs a weight of shape \(2,\)",
        ),
        (
            block("layer1", 1, 2),
            r"no tensor is left for net/conv2/w, which needs a weight of shape \(2, 2, 3, 3\)",
        ),
        (
            {**CONV2_TENSORS, **linear("fc", 2, 5)},
            r"tensor fc.weight of shape \(5, 2\) is left over",
        ),
        (
            {**CONV2_TENSORS, "lstm.weight_ih_l0": zeros(4, 4)},
            r"tensor lstm.weight_ih_l0 of shape \(4, 4\) is none of weight",
        ),
    ],
)
def test_what_does_not_fit_is_named_on_both_sides(tensors, message):
    with pytest.raises(ValueError, match=message):
        from_torch_layout(tensors, CONV2)


def test_inputs_that_are_no_flattened_maps_are_refused():
    like = {"conv": {"w": zeros(3, 3, 1, 4), "b": zeros(4)}, "fc": {"w": zeros(21, 3), "b": zeros(3)}}
    tensors = {"c.weight": drawn(4, 1, 3, 3), "c.bias": drawn(4), **linear("f", 21, 3)}
    with pytest.raises(ValueError, match="fc/w: 21 inputs are no square maps of 4 channels"):
        from_torch_layout(tensors, like)


def test_no_layers_need_no_tensors():
    assert from_torch_layout({}, {"net": {}, "running": {}}) == {"net": {}, "running": {}}


@pytest.mark.parametrize(
    ("other", "place"),
    [({"lstm": dict.fromkeys("wub", zeros(2, 2))}, r"lstm \(w, u, b\)"), ({"scale": zeros()}, "scale")],
)
def test_parameters_that_are_no_layers_are_refused(other, place):
    with pytest.raises(ValueError, match=rf"{place} .*is no layer of w, gamma, beta or of w, b"):
        from_torch_layout(CONV2_TENSORS, {**CONV2, **other})


@pytest.fixture(name="torch")
def _torch():
    module = pytest.importorskip("torch")
    module.manual_seed(0)
    with module.no_grad():
        yield module


def torch_block(torch, inputs, filters, padding=1, pool=True, **norm):
    layers = [torch.nn.Conv2d(inputs, filters, 3, padding=padding), torch.nn.BatchNorm2d(filters, **norm)]
    return torch.nn.Sequential(*layers, torch.nn.ReLU(), *([torch.nn.MaxPool2d(2)] if pool else []))


def randomise(torch, *nets):
    """Make batch norm's weights differ from 1 and 0, too."""
    for net in nets:
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)


def exported(net, prefix=""):
    return {prefix + name: tensor.numpy() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("training", [True, False])
def test_conv4_computes_what_pytorch_computes(torch, training):
    net = torch.nn.Sequential(*[torch_block(torch, 8 if i else 1, 8) for i in range(4)], torch.nn.Flatten())
    x = torch.rand(5, 1, 28, 28)
    randomise(torch, net)
    net(x)  # for running statistics
    params = from_torch_layout(exported(net), conv_net_like(1, 8, 4))
    features, _ = layers.conv_net(params["net"], ours(x.numpy()), None if training else params["running"])
    close(features[0], net.train(training)(x).numpy())


def test_batch_norms_without_running_statistics_as_in_pytorch(torch):
    net = torch.nn.Sequential(*[torch_block(torch, 2, 2, track_running_stats=False) for _ in range(2)])
    randomise(torch, net)
    x = torch.rand(5, 2, 8, 8)
    params = from_torch_layout(exported(net), conv_net_like(2, 2, 2))
    features, _ = layers.conv_net(params["net"], ours(x.numpy()))
    close(features.reshape(1, 5, 2, 2, 2), ours(net.eval()(x).numpy()))


def test_convolutions_and_linear_layers_as_in_pytorch(torch):
    nn = torch.nn
    maps = [nn.Conv2d(2, 3, 5), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten()]
    net = nn.Sequential(*maps, nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 1))
    params = from_torch_layout(exported(net), SMALL)
    close(small_net(params, ours(IMAGES)), net(torch.from_numpy(IMAGES)).numpy())


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_a_relation_network_scores_as_in_pytorch(torch, batch_norm):
    nn, way, queries, size = torch.nn, 3, 4, 58  # pixels: the maps that get flattened are 3 x 3
    shapes = [(1, 4, 0, True), (4, 4, 0, True), (4, 4, 1, False), (4, 4, 1, False)]
    embed = nn.Sequential(*[torch_block(torch, *shape) for shape in shapes])
    dense = [nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 1)]
    relate = nn.Sequential(torch_block(torch, 8, 4), torch_block(torch, 4, 4), *dense)
    xs, xq = torch.rand(way, 1, size, size), torch.rand(queries, 1, size, size)

    def scores():
        support = embed(xs)[None].expand(queries, -1, -1, -1, -1)
        query = embed(xq)[:, None].expand(-1, way, -1, -1, -1)
        return relate(torch.cat([support, query], 2).flatten(0, 1)).reshape(queries, way).numpy()

    randomise(torch, embed, relate)
    scores()  # for running statistics
    learner = learners.make("relation", filters=4, size=size, batch_norm=batch_norm)
    tensors = {**exported(embed, "embed."), **exported(relate, "relate.")}
    params = from_torch_layout(tensors, learner.init(np.random.default_rng(0)))
    state = learner.adapt(params, ours(xs.numpy()), np.arange(way)[None], way)
    got = learner.predict(params, state, ours(xq.numpy()))[0]
    for net in (embed, relate):
        net.train(batch_norm == "batch")
    close(got, scores())
    assert np.ptp(got) > 0.05
