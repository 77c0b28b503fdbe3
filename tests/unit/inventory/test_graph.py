"""The rules by which a traced program is read, on small programs written out by hand."""

from collections.abc import Iterable

import pytest

from layerscope.inventory import Layers, Role
from layerscope.inventory._graph import Graph, Kind, Value
from layerscope.inventory._operations import Went

B = 3


class Program:
    """Writes a program line by line: every tensor is a number."""

    def __init__(self) -> None:
        self.graph, self.made = Graph(B), 0
        self.weights = self.value(7, 7)
        self.graph.constant([self.weights])

    def value(self, *shape: int, dtype: str = "float32") -> Value:
        self.made += 1
        return Value(self.made, shape, dtype)

    def input(self, *shape: int) -> Value:
        value = self.value(*shape)
        self.graph.given([value])
        return value

    def op(self, name: str, *inputs: Value, shape: Iterable[int] | None = None, **said: object) -> Value:
        output = self.value(*(inputs[0].shape if shape is None else shape))
        self.graph.operation(name, inputs, [output], **said)  # type: ignore[arg-type]
        return output

    def layer(self, path: str, kind: Kind, x: Value, shape: Iterable[int] | None = None) -> Value:
        self.graph.opens(path, kind, [x])
        output = self.value(*(x.shape if shape is None else shape))
        self.graph.closes([output])
        return output

    def found(self, *outputs: Value) -> Layers:
        self.graph.gave(outputs)
        return self.graph.found()


CONV = Kind("Conv", does="conv", unit=-1)
FUSED = Kind("Conv2D", does="conv", activation="relu", unit=-1)
DENSE = Kind("Dense", does="linear", unit=-1)
NORM = Kind("BatchNorm", does="batch_norm")
ADD = Kind("Add", does="add")


def read(found: Layers) -> list[str]:
    return [str(layer.site) for layer in found.read]


def test_a_function_after_a_weight_layer_is_where_units_fire() -> None:
    p = Program()
    x = p.layer("conv", CONV, p.input(B, 8, 8, 1), (B, 6, 6, 5))
    x = p.op("relu", x)
    x = p.op("reshape", x, shape=(B, 180))
    x = p.op("relu", p.layer("fc", DENSE, x, (B, 20)))
    found = p.found(p.layer("head", DENSE, x, (B, 10)))
    assert read(found) == ["relu()", "relu()#1"]
    assert found[1].axes.unit == 3
    assert found["conv"].left_out == "goes on into a nonlinearity, which is read"
    assert found["head"].left_out.startswith("the model's output")


def test_a_fused_nonlinearity_is_read_at_its_layer() -> None:
    p = Program()
    x = p.layer("conv_1", FUSED, p.input(B, 8, 8, 1), (B, 6, 6, 5))
    x = p.layer("pool", Kind("MaxPooling2D", does="max_pool2d"), x, (B, 3, 3, 5))
    x = p.layer("flatten", Kind("Flatten", does="flatten"), x, (B, 45))
    found = p.found(p.layer("pred", Kind("Dense", does="linear", activation="softmax", unit=-1), x, (B, 10)))
    assert read(found) == ["conv_1"]
    assert found["conv_1"].role is Role.NONLINEARITY
    assert found["pred"].left_out.startswith("the model's output")
    assert found["pred"].threshold is None


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "relu", "tanh"])
def test_thresholds_are_what_the_function_gives_for_zero(activation: str) -> None:
    p = Program()
    x = p.layer("hidden", Kind("Dense", does="linear", activation=activation, unit=-1), p.input(B, 8), (B, 6))
    found = p.found(p.layer("out", DENSE, x, (B, 2)))
    assert found["hidden"].threshold == pytest.approx({"sigmoid": 0.5, "softplus": 0.6931472}.get(activation, 0.0))
    assert read(found) == ["hidden"]


def test_a_residual_block_is_read_after_its_nonlinearity_only() -> None:
    p = Program()
    x = p.op("relu", p.layer("stem", CONV, p.input(B, 8, 8, 3), (B, 8, 8, 4)))
    p.graph.opens("block", Kind("Block"), [x])
    y = p.op("relu", p.layer("block.bn1", NORM, p.layer("block.conv1", CONV, x)))
    y = p.layer("block.bn2", NORM, p.layer("block.conv2", CONV, y))
    y = p.op("relu", p.op("add", x, y))
    p.graph.closes([y])
    y = p.op("mean", y, shape=(B, 4), went=[Went(0, 0), None, None, Went(1, 1)])
    found = p.found(p.layer("fc", DENSE, y, (B, 10)))
    assert read(found) == ["relu()", "block.relu()", "block.relu()#1"]
    assert found["block"].role is Role.CONTAINER
    assert found["block.conv2"].left_out == "goes on into a nonlinearity, which is read"
    assert found["block.bn1"].left_out.startswith("normalisation")


def test_a_module_that_is_one_function_takes_its_place() -> None:
    p = Program()
    x = p.layer("fc", DENSE, p.input(B, 8), (B, 6))
    p.graph.opens("act", Kind("ReLU"), [x])
    x = p.op("relu", x)
    p.graph.closes([x])
    found = p.found(p.layer("out", DENSE, x, (B, 2)))
    assert read(found) == ["act"]
    assert "act.relu()" not in [str(layer.site) for layer in found]


def test_a_module_with_weights_of_its_own_is_a_weight_layer() -> None:
    p = Program()
    x = p.input(B, 8)
    p.graph.opens("mine", Kind("MyLinear"), [x])
    x = p.op("matmul", x, p.weights, shape=(B, 7))
    x = p.op("add", x, p.weights)
    p.graph.closes([x])
    x = p.op("relu", p.layer("next", DENSE, x, (B, 5)))
    found = p.found(p.layer("out", DENSE, x, (B, 2)))
    assert found["mine"].role is Role.WEIGHT
    assert read(found) == ["mine", "relu()"]  # nothing nonlinear follows it before the next weights


def test_parts_of_attention_are_listed_and_the_whole_is_read() -> None:
    p = Program()
    x = p.input(B, 4, 8)
    p.graph.opens("attention", Kind("MultiHeadAttention", does="multi_head_attention_forward", unit=-1), [x])
    q = p.layer("attention.query", Kind("EinsumDense", does="linear", unit=-1), x)
    a = p.op("softmax", p.op("matmul", q, q, shape=(B, 4, 4)))
    y = p.layer("attention.out", Kind("EinsumDense", does="linear", unit=-1), p.op("matmul", a, x, shape=(B, 4, 8)))
    p.graph.closes([y])
    y = p.layer("norm", Kind("LayerNorm", does="layer_norm", unit=-1), p.op("add", x, y))
    found = p.found(p.layer("head", DENSE, y, (B, 4, 5)))
    assert read(found) == ["attention"]
    assert found["attention.query"].left_out == "a part of attention, which is read as one"
    assert found["attention"].leaf


def test_equal_values_are_listed_once_and_dropout_passes_on() -> None:
    p = Program()
    x = p.layer("fc", FUSED, p.input(B, 8), (B, 6))
    y = p.layer("drop", Kind("Dropout", does="dropout", args=(None, 0.5, False)), x)
    found = p.found(p.layer("out", DENSE, y, (B, 2)))
    assert found["drop"].left_out == "same values as fc"


def test_samples_that_are_not_on_an_axis_of_their_own_are_refused() -> None:
    p = Program()
    x = p.op("reshape", p.input(B, 4, 8), shape=(B * 4, 8))
    found = p.found(p.layer("out", DENSE, p.layer("fc", FUSED, x, (B * 4, 6)), (B * 4, 2)))
    assert "12 entries for 3 samples" in found["fc"].unfit or "share axis" in found["fc"].unfit
    transposed = Program()
    x = transposed.op(
        "transpose", transposed.input(B, 4, 8), shape=(4, B, 8), went=[Went(1, 1), Went(0, 0), Went(2, 2)]
    )
    found = transposed.found(
        transposed.op("sum", transposed.op("relu", x), shape=(4, B), went=[Went(0, 0), Went(1, 1), None])
    )
    assert (found["relu()"].axes.sample, found["relu()"].axes.unit) == (1, 2)


def test_inputs_of_layers_are_listed_where_asked_for() -> None:
    graph = Graph(B, inputs=True)
    x, y = Value("x", (B, 8), "float32"), Value("y", (B, 6), "float32")
    graph.given([x])
    graph.opens("fc", DENSE, [x])
    graph.closes([y])
    assert [str(layer.site) for layer in graph.found()] == ["fc:in", "fc"]
    assert graph.keys[graph.found()[0].site] == "x"


def test_a_layer_used_twice_is_two_sites() -> None:
    p = Program()
    x = p.input(B, 8)
    shared = Kind("Dense", does="linear", activation="relu", unit=-1)
    x = p.layer("fc", shared, p.layer("fc", shared, x))
    assert read(p.found(p.layer("out", DENSE, x, (B, 2)))) == ["fc", "fc#1"]
