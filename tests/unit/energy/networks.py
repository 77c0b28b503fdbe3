"""Networks and synapses that many tests share."""

from typing import Any

import numpy as np

from layerscope import energy
from layerscope.energy import HAM, AbstractSynapse
from tests.unit.energy.autodiff import array

Shapes = tuple[tuple[int, ...], ...]


def synapses() -> dict[str, tuple[AbstractSynapse, Shapes]]:
    """One synapse of every kind, with shapes of layers that it fits."""
    rng = np.random.default_rng(0)

    def n(*shape: int) -> Any:
        return rng.standard_normal(shape)

    return {
        "dense": (energy.DenseSynapse(n(5, 4)), ((5,), (4,))),
        "dense of three": (energy.DenseSynapse(n(6, 4, 3)), ((2, 3), (4,), (3,))),
        "dense of four": (energy.DenseSynapse(n(3, 4, 2, 5)), ((3,), (4,), (2,), (5,))),
        "dense of one": (energy.DenseSynapse(n(4)), ((4,),)),
        "dense by axes": (energy.DenseSynapse(n(2, 3, 4)), ((2, 3), (4,))),
        "bias": (energy.BiasSynapse(n(2, 3)), ((2, 3),)),
        "hidden": (energy.HiddenSynapse([n(5, 7), n(6, 7)], energy.LSoftmax(1.3), n(7)), ((5,), (2, 3))),
        "hidden relu": (energy.HiddenSynapse(n(5, 7), energy.LRelu()), ((5,),)),
        "tensor hidden": (energy.TensorHiddenSynapse(n(7, 5, 4), energy.LTanh(0.7)), ((5,), (4,))),
        "attention": (energy.AttentionSynapse(n(2, 4, 3), n(2, 5, 3)), ((6, 4), (2, 3, 5))),
        "self-attention": (energy.SelfAttentionSynapse(n(2, 4, 3), n(2, 4, 3)), ((6, 4),)),
        "masked attention": (
            energy.AttentionSynapse(n(2, 4, 3), n(2, 5, 3), energy.LSoftmax(1.3), [True, False, True, True, True, False], np.arange(6) != 2),
            ((6, 4), (2, 3, 5)),
        ),
        "masked self-attention": (energy.SelfAttentionSynapse(n(2, 4, 3), n(2, 4, 3), energy.LGhostmax(0.8), np.arange(6) < 4), ((6, 4),)),
        "convolution": (energy.ConvSynapse(n(3, 3, 2, 4)), ((6, 7, 2), (6, 7, 4))),
        "convolution, valid": (energy.ConvSynapse(n(3, 2, 2, 4), (2, 1), "valid"), ((6, 7, 2), (2, 6, 4))),
        "convolution of a line": (energy.ConvSynapse(n(3, 2, 4), 2, 1), ((9, 2), (5, 4))),
        "convolution, mean pool": (energy.ConvSynapse(n(3, 3, 2, 4), pool=energy.Pool(2)), ((6, 6, 2), (3, 3, 4))),
        "convolution, max pool": (energy.ConvSynapse(n(3, 3, 2, 4), pool=energy.Pool(3, 1, "max")), ((6, 6, 2), (4, 4, 4))),
    }  # fmt: skip


def two_layers(seed: int, visible: str = "identity", framework: str = "numpy", units: tuple[int, int] = (12, 9)) -> HAM:
    """A layer of some kind and a softmax layer with random β and random weights: a dense associative memory."""
    rng = np.random.default_rng(seed)
    scale, beta = rng.uniform(0.2, 6), rng.uniform(0.2, 8)
    kinds = {
        "identity": lambda: energy.IdentityLayer((units[0],)),
        "relu": lambda: energy.ReluLayer((units[0],)),
        "sigmoid": lambda: energy.SigmoidLayer((units[0],), beta=beta),
        "tanh": lambda: energy.TanhLayer((units[0],), beta=beta),
        "layernorm": lambda: energy.LayerNormLayer((units[0],), eps=0.1),
    }
    W = rng.standard_normal(units) * scale / np.sqrt(units[0])
    return HAM(
        {"v": kinds[visible](), "h": energy.SoftmaxLayer((units[1],), beta=beta)},
        {"W": energy.DenseSynapse(array(framework, W))},
        [(("v", "h"), "W")],
    )


def zoo(framework: str = "numpy") -> HAM:
    """A network with one of everything: biases, three-way synapses, hidden layers, attention, convolution, time constants."""
    rng = np.random.default_rng(3)

    def n(*shape: int) -> Any:
        return array(framework, 0.4 * rng.standard_normal(shape))

    layers = {
        "image": energy.SigmoidLayer((4, 4, 2), beta=1.5, tau=2.0),
        "map": energy.TanhLayer((2, 2, 3), beta=0.8, bias=n(2, 2, 3)),
        "tokens": energy.LayerNormLayer((4, 3), gamma=0.9, delta=0.2, eps=0.1),
        "code": energy.SoftmaxLayer((5,), beta=2.0, tau=0.5),
    }
    synapses = {
        "conv": energy.ConvSynapse(n(3, 3, 2, 3), pool=energy.Pool(2)),
        "three": energy.DenseSynapse(n(12, 12, 5)),
        "look": energy.AttentionSynapse(n(2, 3, 2), n(2, 3, 2), energy.LSoftmax(1.2)),
        "self": energy.SelfAttentionSynapse(n(2, 3, 2), n(2, 3, 2)),
        "memory": energy.HiddenSynapse([n(32, 6), n(5, 6)], energy.LSoftmax(3.0), n(6)),
        "bias": energy.BiasSynapse(n(5)),
    }
    connections = [
        (("image", "map"), "conv"),
        (("map", "tokens", "code"), "three"),
        (("map", "tokens"), "look"),
        (("tokens",), "self"),
        (("image", "code"), "memory"),
        (("code",), "bias"),
    ]
    return HAM(layers, synapses, connections)
