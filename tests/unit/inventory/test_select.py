"""Which sites a selection means: by class, name, glob, predicate and site, at outputs and inputs; exclude wins."""

from typing import Any

import pytest

import layerscope as ls
from layerscope import Axes, Site
from layerscope._errors import ShapeError, SiteError, ThresholdError
from layerscope.inventory import Layer, Layers, Role, find, matches, select, with_rules
from tests.conftest import require
from tests.unit.probes.oracle import Model

torch = require("torch")
nn, F = torch.nn, torch.nn.functional
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class MyConv(nn.Conv2d):
    pass


def block(i: int, o: int) -> Any:
    return Model(lambda m, x: F.relu(m.bn(m.conv(x))), conv=nn.Conv2d(i, o, 3), bn=nn.BatchNorm2d(o))


def net() -> Any:
    torch.manual_seed(0)
    return Model(
        lambda m, x: m.fc(m.relu(m.own(m.relu(m.blocks(x)))).mean((2, 3)).relu()),
        blocks=nn.Sequential(block(3, 4), block(4, 4)),
        relu=nn.ReLU(),
        own=MyConv(4, 5, 3),
        fc=nn.Linear(5, 2),
    )


def read(layers: Any = None, **asked: Any) -> list[str]:
    return [str(x.site) for x in ls.layers(net(), X, layers=layers, **asked).read]


@pytest.mark.parametrize(
    ("layers", "sites"),
    [
        (None, ["blocks.0.relu()", "blocks.1.relu()", "relu", "relu#1", "relu()"]),
        ("relu", ["relu", "relu#1"]),  # the module of that name, and no function
        ("relu()", ["relu()"]),
        ("relu#1", ["relu#1"]),
        ("relu#0", ["relu"]),
        ("ReLU", ["relu", "relu#1"]),
        ("F.relu", ["blocks.0.relu()", "blocks.1.relu()", "relu()"]),
        ("*.relu*", ["blocks.0.relu()", "blocks.1.relu()"]),
        ("re*", ["relu", "relu#1", "relu()"]),
        ("Conv2d", ["blocks.0.conv", "blocks.1.conv"]),
        ("*Conv*", ["blocks.0.conv", "blocks.1.conv", "own"]),
        (nn.Conv2d, ["blocks.0.conv", "blocks.1.conv", "own"]),  # a subclass is one
        (MyConv, ["own"]),
        (nn.modules.batchnorm._NormBase, ["blocks.0.bn", "blocks.1.bn"]),
        ("blocks.*.conv", ["blocks.0.conv", "blocks.1.conv"]),
        ("blocks.[1].*", ["blocks.1.conv", "blocks.1.bn", "blocks.1.relu()"]),
        (["fc", nn.ReLU], ["relu", "relu#1", "fc"]),
        (("fc", "own"), ["own", "fc"]),
        (lambda layer: layer.units == 5 and layer.role is Role.WEIGHT, ["own"]),
        (Site("relu", 1), ["relu#1"]),
        ("(model)", ["(model)"]),
        ("own:in", ["own:in"]),
        (Site("own", port="in"), ["own:in"]),
        ("MyConv:in", ["own:in"]),
        (["own", "own:in"], ["own:in", "own"]),
    ],
    ids=str,
)
def test_what_a_selection_means(layers: Any, sites: list[str]) -> None:
    assert read(layers) == sites


@pytest.mark.parametrize(
    ("exclude", "sites"),
    [
        ("relu", ["blocks.0.relu()", "blocks.1.relu()", "relu()"]),
        (["relu", "F.relu"], None),
        (nn.ReLU, ["blocks.0.relu()", "blocks.1.relu()", "relu()"]),
        (lambda layer: True, None),
        (lambda layer: False, ["blocks.0.relu()", "blocks.1.relu()", "relu", "relu#1", "relu()"]),
    ],
    ids=str,
)
def test_exclude_wins(exclude: Any, sites: list[str] | None) -> None:
    if sites is None:
        with pytest.raises(SiteError, match=r"no site is left to read(.|\n)*excluded"):
            read(exclude=exclude)
    else:
        assert read(exclude=exclude) == sites
        assert all(
            x.left_out == "excluded"
            for x in ls.layers(net(), X, exclude=exclude)
            if "relu" in str(x.site) and x.left_out
        )


@pytest.mark.parametrize("asked", [{"layers": "rellu"}, {"layers": ["relu", "rellu"]}, {"exclude": "rellu"}])
def test_an_unknown_name_lists_the_layers_and_the_nearest(asked: Any) -> None:
    with pytest.raises(
        SiteError,
        match=r"'rellu' matches no layer. Did you mean 'relu'\? Sites are: blocks.0.conv.*Classes are: .*Conv2d",
    ):
        read(**asked)


def test_other_unknowns() -> None:
    with pytest.raises(SiteError, match="matches no layer"):
        read(nn.LSTM)
    with pytest.raises(SiteError, match="matches no layer"):
        read(Site("relu", 5))
    with pytest.raises(SiteError, match="matches no layer"):
        read("relu[1]")

    class Conv2d(nn.Module):  # another class of that name
        pass

    with pytest.raises(SiteError, match="matches no layer"):
        read(Conv2d)


def line(path: str, shape: tuple[int, ...] = (2, 5), **fields: Any) -> Layer:
    given = {"kind": "Linear", "role": Role.NONLINEARITY, "dtype": "float32", "axes": Axes(1), **fields}
    return Layer(Site(path), shape=shape, **given)


def test_find_wants_one_site() -> None:
    layers = [line("a"), Layer(Site("a", 1), "ReLU", Role.NONLINEARITY, (2, 5), "float32", Axes(1)), line("b")]
    assert find(layers, "a") is layers[0]
    assert find(layers, Site("a", 1)) is layers[1]
    both = [Layer(Site("a", k), "ReLU", Role.NONLINEARITY, (2, 5), "float32", Axes(1)) for k in (1, 2)]
    with pytest.raises(SiteError, match="could be any of a#1, a#2"):
        find(both, "a")
    with pytest.raises(SiteError, match=r"no site 'bb'. Did you mean 'b'\?"):
        find(layers, "bb")


def test_rules_of_the_user() -> None:
    layers = Layers(
        [
            line("a", (2, 5, 7)),
            line(
                "s",
                role=Role.SOFTMAX,
                threshold=None,
                left_out="softmax is never ≤ 0: say thresholds={…} to measure it",
            ),
        ]
    )
    ruled = with_rules(layers, {"s": 0.1}, {"a": 2}, None)
    assert (ruled[0].axes, ruled[1].threshold, ruled[1].left_out) == (Axes(2, 0), 0.1, "")
    assert with_rules(layers, None, {"a": Axes(1, sample=-1)}, None)[0].axes == Axes(1, 2)
    for axes, message in (
        ({"a": 3}, "axes are 0 to 2"),
        ({"a": 0}, "one and the same"),
        ({"a": Axes(1, 1)}, "one and the same"),
    ):
        with pytest.raises(ShapeError, match=message):
            with_rules(layers, None, axes, None)
    for rules in ({"zz": 1}, {"Conv2d": 1}):
        with pytest.raises(SiteError, match=r"thresholds='[zC].*matches no layer"):
            with_rules(layers, rules, None, None)
        with pytest.raises(SiteError, match=r"axes='[zC].*matches no layer"):
            with_rules(layers, None, rules, None)
    with pytest.raises(ThresholdError, match="no rule above which value"):
        with_rules(select(layers, "s"), None, None, "s")
    assert with_rules(select(layers, "all"), None, None, "all").read == (select(layers, "all")[0],)


def test_an_unfit_site_is_left_out_unless_asked_for_by_name_or_given_axes() -> None:
    layers = Layers(
        [
            line("a"),
            line(
                "t",
                (7, 2, 5),
                unfit="axis 0 has 7 entries for 2 samples",
                left_out="axis 0 has 7 entries for 2 samples",
            ),
        ]
    )
    assert [str(x.site) for x in with_rules(select(layers, "*"), None, None, "*").read] == ["a"]
    assert [str(x.site) for x in select(layers, "all").read] == ["a"]
    for asked in ("t", ["a", "t"], Site("t")):
        with pytest.raises(ShapeError, match="t: it cannot be read: axis 0 has 7 entries"):
            with_rules(select(layers, asked), None, None, asked)
    with pytest.raises(SiteError, match=r"no site is left to read(.|\n)*7 entries"):
        with_rules(select(layers, "t*"), None, None, "t*")
    cured = with_rules(select(layers, None), None, {"t": Axes(2, sample=1)}, None)
    assert [str(x.site) for x in cured.read] == ["a", "t"]


def test_a_name_is_matched_case_and_all() -> None:
    layer = line("Block.fc")
    for yes in ("Block.fc", "Block.*", "*.fc", "Linear", "Lin*", "all", Site("Block.fc")):
        assert matches(layer, yes), yes
    for no in ("block.fc", "linear", "fc", "Block", "Block.fc#1", "Block.fc:in", "Block.fc[1]", Site("fc"), nn.Linear):
        assert not matches(layer, no), no


def test_layers_print_and_index() -> None:
    layers = ls.layers(net(), X)
    assert layers[0].site == layers["blocks.0.conv"].site == layers[Site("blocks.0.conv")].site
    assert isinstance(layers[1:3], Layers)
    text = repr(layers)
    assert "▶  relu#1" in text
    assert "5 of 15 sites are read by default" in text


def test_a_view_of_memory_that_was_written_since_is_no_longer_the_site_before() -> None:
    """`act` is written in place after a view of it was taken: a view of that view has other values than `act` had."""

    def forward(m: Any, x: Any) -> Any:
        fired = m.act(x)
        view = fired.view(-1, 6)
        fired.sub_(1.0)
        return m.head(m.keep(view.view(-1, 6)))

    model = Model(forward, act=nn.ReLU(), keep=nn.Identity(), head=nn.Linear(6, 2))
    x = torch.randn(3, 6)
    assert not ls.layers(model, x)["keep"].left_out.startswith("same values")
    values = ls.activations(model, x, layers=["act", "keep"])
    assert (values["keep"] == values["act"] - 1).all()
    untouched = Model(
        lambda m, x: m.head(m.keep(m.act(x).view(-1, 6))), act=nn.ReLU(), keep=nn.Identity(), head=nn.Linear(6, 2)
    )
    assert ls.layers(untouched, x)["keep"].left_out == "same values as act"
