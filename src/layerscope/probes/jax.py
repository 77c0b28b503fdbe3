"""The JAX probe: a model as a program, whose values come out of its middle as further outputs.

The program is traced once for every shape of batch, read (`inventory.jax`), and rewritten (`inventory.program`).  No callbacks, nothing that
is kept while tracing: what a layer gave is an output, under every transformation that the model uses inside.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from .._errors import DtypeError, ShapeError, SiteError
from .._site import Activations, Chunk
from ..inventory import Layer, Layers
from ..inventory.jax import Listing, listing
from ..inventory.program.jax import exposed
from ._abstract import AbstractProbe, Read
from ._net import Net, inputs_of
from ._program import Reads, counted, hosted
from .taps.jax import ARRAYS, batch_first

CHANGING = (
    "A model that does other things for other batches cannot be measured in one pass; choose layers that always run."
)
TAPS = """    def model(params, x):
        x = ls.tap("hidden", jax.nn.relu(x @ params["w"]))
        return x @ params["v"]
    ls.examine(model, data, params=params)"""


@dataclass(frozen=True)
class _Traced:
    """A program for one shape of batch: the closed jaxpr, what there is to read, the tree of its output, the batch it was traced for."""

    closed: Any
    listing: Listing
    outputs: int
    size: int


@dataclass
class _Compiled:
    """A compiled program: for which layers, what it reads (None on a host), and the function."""

    layers: tuple[Layer, ...]
    read: Read | None
    reads: Reads
    run: Callable[..., Any]
    consts: Any


class JaxProbe(AbstractProbe):
    """Reads a model of Flax or Equinox, or a function with taps; see `AbstractProbe`.

    **Arguments:** `model` an NNX model, a Linen module with `params`, an Equinox module (which takes one sample, and is mapped over the
    batch), or a function of the inputs, or of `params` and the inputs; `device` a name ("cpu", "gpu:1"), a JAX device, or a sharding,
    over which a batch is spread and padded; None: where the parameters are. `forward` (model, inputs) → output for a whole batch,
    instead of the model's own call. Programs are kept for every shape of batch, so each is compiled once.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: Any = None,
        amp: str | None = None,
        forward: Callable[..., Any] | None = None,
        params: Any = None,
    ) -> None:
        if amp is not None:
            raise DtypeError(
                f"amp={amp!r}: JAX has no autocast. Give a model that computes in that type, for example layers made with "
                "dtype=jax.numpy.bfloat16."
            )
        self.model, self.device, self.forward, self.params = model, device, forward, params
        self._net = net_of(model, params, forward)
        self._check_built()
        self._where = _placement(device)
        self._parameters: list[Any] | None = None
        self._seen: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._programs: dict[Any, _Traced] = {}
        self._compiled: dict[Any, _Compiled] = {}

    def __enter__(self) -> Self:
        leaves = jax.tree.leaves(self._net.parameters)
        if self._where is None:
            self._parameters = [leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for leaf in leaves]
        else:
            target = _replicated(self._where) if isinstance(self._where, jax.sharding.Sharding) else self._where
            self._parameters = [jax.device_put(leaf, target) for leaf in leaves]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parameters = None  # programs hold no parameters, so they may stay

    # --- forwards ----------------------------------------------------------------------------------------------------------------

    def describe(self, batch: Any, inputs: bool = False) -> Layers:
        args, kwargs = _given(batch.args), _given(batch.kwargs)
        self._seen = (args, kwargs)
        traced = self._traced(args, kwargs, batch.size, inputs)
        if self._net.only_taps and not traced.listing.layers:
            name = getattr(self.model, "__name__", type(self.model).__name__)
            raise SiteError(
                f"{name} is a function without taps, and what happens inside a function has no names. Name what shall be read:\n{TAPS}\n"
                "A function of PyTorch is no model of JAX: wrap it in a module's forward."
            )
        return traced.listing.layers

    def run(self, batch: Any, layers: tuple[Layer, ...], read: Read) -> tuple[Any, Mapping[Layer, Mapping[Any, Chunk]]]:
        size = self._rows(batch.size)
        args, kwargs = _given(batch.args, size), _given(batch.kwargs, size)
        program = self._program(args, kwargs, size, layers, read)
        leaves = self._spread(jax.tree.leaves((args, kwargs)))
        count = len(batch.samples)
        if program.read is None:
            output, values = program.run(program.consts, self._parameters, leaves)
            found: dict[Layer, Any] = {}
            for layer, value in zip(layers, values, strict=True):
                _check_rows(layer, value.shape, size)
                found[layer] = read(layer, hosted(layer, np.asarray(value), batch))
            return _first(output, count), found
        real, mask = counted(batch, size)
        output, arrays = program.run(program.consts, self._parameters, leaves, real, mask)
        return _first(output, count), program.reads.filled(arrays, batch.samples)

    def _rows(self, size: int) -> int:
        """Rows of a forward: as many as the batch, or more, so that every device gets as many as the others."""
        if not isinstance(self._where, jax.sharding.Sharding):
            return size
        parts = next((n for n in range(1, len(self._where.device_set) + 1) if self._fits(n)), 1)
        return -(-size // parts) * parts

    def _fits(self, rows: int) -> bool:
        try:
            self._where.shard_shape((rows,))
        except ValueError:
            return False
        return True

    def _spread(self, leaves: list[Any]) -> list[Any]:
        return leaves if self._where is None else [jax.device_put(leaf, self._where) for leaf in leaves]

    def _traced(self, args: Any, kwargs: Any, size: int, inputs: bool = False) -> _Traced:
        leaves, tree = jax.tree.flatten((args, kwargs))
        key = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves), tree, size, inputs
        if key not in self._programs:
            self._programs[key] = self._trace(leaves, tree, size, inputs)
        return self._programs[key]

    def _trace(self, leaves: list[Any], tree: Any, size: int, inputs: bool) -> _Traced:
        net = self._net
        parameters, parameter_tree = jax.tree.flatten(net.parameters)

        def flat(parameters: list[Any], leaves: list[Any]) -> list[Any]:
            args, kwargs = jax.tree.unflatten(tree, leaves)
            output = net.call(jax.tree.unflatten(parameter_tree, parameters), args, kwargs)
            return [leaf for leaf in jax.tree.leaves(output) if isinstance(leaf, ARRAYS)]

        if net.mapped:
            leaves = [self._one(leaf, size) for leaf in leaves]
        types = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        try:
            closed = jax.make_jaxpr(flat)([_type_of(leaf) for leaf in parameters], types)
        except jax.errors.ConcretizationTypeError as error:
            raise SiteError(
                f"{net.model}: it decides in Python on values that are known only while it runs, so it cannot be compiled: "
                f"{str(error).splitlines()[0]} Use jax.lax.cond or jnp.where, or leave that part out with ls.Data(…, forward=…)."
            ) from error
        except TypeError as error:
            if net.only_taps and "torch" in sys.modules and "Tensor" in str(error):
                raise SiteError(
                    f"{net.model}: it was taken for a function of JAX, and raised {str(error).splitlines()[0]!r}. If it is one of PyTorch, "
                    "wrap it in a module's forward."
                ) from error
            if not re.search("(positional|keyword) argument", str(error)):
                raise
            raise SiteError(
                f"{net.model}: it cannot be called with what the data gives: {error}. Say how with ls.Data(…, forward=lambda model, x: …)."
            ) from error
        found = listing(closed, len(parameters), size, mapped=net.mapped, inputs=inputs, only_taps=net.only_taps)
        return _Traced(closed, found, len(closed.jaxpr.outvars), size)

    @staticmethod
    def _one(leaf: Any, size: int) -> Any:
        """One sample of an input."""
        if not leaf.shape or leaf.shape[0] != size:
            raise ShapeError(
                f"an input of shape {tuple(leaf.shape)} for {size} samples: an Equinox module takes one sample at a time and is mapped over "
                "the first axis of every input. Say how it is called with ls.Data(…, forward=lambda model, x: …)."
            )
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)

    def _program(self, args: Any, kwargs: Any, size: int, layers: tuple[Layer, ...], read: Read) -> _Compiled:
        key = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves((args, kwargs))), size
        known = self._compiled.get(key)
        if known is not None and known.layers == layers and known.read in (None, read):
            return known
        inputs = any(layer.site.port == "in" for layer in layers)
        made = self._compile(self._traced(args, kwargs, size, inputs), layers, read)
        self._compiled[key] = made
        return made

    def _compile(self, traced: _Traced, layers: tuple[Layer, ...], read: Read) -> _Compiled:
        found, closed = traced.listing, traced.closed
        missing = [str(layer.site) for layer in layers if layer.site not in found.places]
        if missing:
            raise SiteError(f"{', '.join(missing)} did not run, though the first forward ran it. {CHANGING}")
        places = [found.places[layer.site] for layer in layers]
        program = exposed(closed, [place.address for place in places])

        def one(consts: Any, parameters: list[Any], leaves: list[Any]) -> tuple[list[Any], list[Any]]:
            out = core.jaxpr_as_fun(program.replace(consts=consts))(*parameters, *leaves)
            values = [
                batch_first(value, place.batched, len(place.loops))
                for value, place in zip(out[traced.outputs :], places, strict=True)
            ]
            return out[: traced.outputs], values

        def forward(consts: Any, parameters: list[Any], leaves: list[Any]) -> tuple[Any, list[Any]]:
            if self._net.mapped:
                outputs, values = jax.vmap(one, in_axes=(None, None, 0))(consts, parameters, leaves)
            else:
                outputs, values = one(consts, parameters, leaves)
            moved = [jnp.moveaxis(v, found.samples[x.site], 0) for x, v in zip(layers, values, strict=True)]
            return (outputs[0] if outputs else None), moved

        reads = Reads()

        def packed(consts: Any, parameters: Any, leaves: Any, real: Any, mask: Any) -> tuple[Any, Any]:
            output, values = forward(consts, parameters, leaves)
            for layer, value in zip(layers, values, strict=True):
                reads.chunks[layer] = read(layer, _activations(layer, value, traced.size, real, mask))
            arrays = reads.arrays()
            reads.forget_arrays()
            return output, arrays

        on_host = self._platform() == "cpu"
        run = jax.jit(forward if on_host else packed)
        return _Compiled(layers, None if on_host else read, reads, run, closed.consts)

    def _platform(self) -> str:
        for leaf in self._parameters or ():
            if isinstance(leaf, jax.Array):
                return next(iter(leaf.devices())).platform
        if isinstance(self._where, jax.sharding.Sharding):
            return next(iter(self._where.device_set)).platform
        return (self._where or jax.devices()[0]).platform

    def _check_built(self) -> None:
        """**Raises:** `SiteError` for parameters that are only shapes."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(self._net.parameters):
            if isinstance(leaf, jax.ShapeDtypeStruct):
                raise SiteError(
                    f"model: {jax.tree_util.keystr(path)} is only a shape ({leaf.shape}, {leaf.dtype}) and holds no values. Load the weights "
                    "first."
                )

    # --- what else a probe is asked ----------------------------------------------------------------------------------------------

    def watch(self, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
        """**Raises:** `SiteError` always: a compiled call cannot be seen from outside."""
        raise SiteError(
            "ls.watch: calls of a JAX model are compiled and cannot be watched from outside. Let layerscope call it, or bring out what you "
            "have tapped:\n    results = ls.examine(model, data)\n    y, values = ls.reap(f)(x)   # everything that f names with ls.tap"
        )

    def untrained(self, seed: int = 0) -> "JaxProbe":
        if self._net.fresh is None or self._seen is None:
            raise SiteError(
                f"references=['untrained']: nobody here knows how the parameters of a model of {self._net.library} start. Make the untrained "
                "model yourself: references={'untrained': MyModel(...)}."
            )
        params = self._net.fresh(seed, *self._seen)
        return JaxProbe(self.model, device=self.device, forward=self.forward, params=params)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        leaves = jax.tree_util.tree_leaves_with_path(self._net.parameters)
        named = [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
        if self._net.only_taps:  # a function may hold its weights inside
            for traced in [*self._programs.values()][:1]:
                text = re.sub(r"0x[0-9a-f]+", "", str(traced.closed.jaxpr))
                named += [(text, None), *(("constant", const) for const in traced.closed.consts)]
        for name, leaf in named:
            digest.update(name.encode())
            if leaf is not None:
                values = _host(leaf)
                digest.update(f"{values.shape} {values.dtype}".encode())
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        leaves = [leaf for leaf in jax.tree.leaves(self._net.parameters) if isinstance(leaf, ARRAYS)]
        floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        devices = {
            str(device) for leaf in self._parameters or () if isinstance(leaf, jax.Array) for device in leaf.devices()
        }
        return {
            "framework": self._net.library,
            "framework_version": f"{self._net.version} (jax {jax.__version__})",
            "model": self._net.model,
            "parameters": sum(int(leaf.size) for leaf in floats),
            "dtype": ", ".join(sorted({str(leaf.dtype) for leaf in floats})) or "none",
            "device": ", ".join(sorted(devices)) or str(self._where or jax.devices()[0]),
            "amp": None,
            "compiled": True,
        }


def net_of(model: Any, params: Any, forward: Callable[..., Any] | None) -> Net:
    """A model of any library as a function of its parameters.

    **Raises:** `SiteError` where `params` is missing or not wanted.
    """
    if "flax" in sys.modules:
        from .flax import is_linen, is_nnx, linen_net, nnx_net

        if is_linen(model):
            return linen_net(model, params, forward)
        if is_nnx(model):
            _check_own_parameters("a Flax NNX model", params)
            return nnx_net(model, forward)
    if "equinox" in sys.modules:
        from .equinox import equinox_net, is_equinox

        if is_equinox(model):
            _check_own_parameters("an Equinox module", params)
            return equinox_net(model, forward)

    def call(parameters: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if forward is not None:
            bound = model if params is None else lambda *a, **k: model(parameters, *a, **k)
            return forward(bound, inputs_of(args, kwargs))
        return model(*args, **kwargs) if params is None else model(parameters, *args, **kwargs)

    name = getattr(model, "__name__", type(model).__name__)
    return Net("jax", jax.__version__, name, {} if params is None else params, call, only_taps=True)


def _check_own_parameters(kind: str, params: Any) -> None:
    if params is not None:
        raise SiteError(
            f"params=: {kind} holds its own parameters. Leave params= out; it is for Flax Linen modules and JAX functions."
        )


def _placement(device: Any) -> Any:
    """A device or sharding; names are those of platforms, with a number: "gpu:1"."""
    if not isinstance(device, str):
        return device
    platform, _, number = device.partition(":")
    try:
        return jax.devices("gpu" if platform == "cuda" else platform)[int(number or 0)]
    except (RuntimeError, IndexError, ValueError):
        there = ", ".join(f"{each.platform}:{each.id}" for each in jax.devices())
        raise SiteError(f"device={device!r}: there is no such device. JAX has {there}.") from None


def _replicated(sharding: Any) -> Any:
    """A whole copy on every device of a sharding."""
    if isinstance(sharding, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return sharding


def _given(value: Any, size: int | None = None) -> Any:
    """Inputs as JAX takes them, without a copy where they are NumPy arrays; padded with their last row to `size`."""

    def leaf(each: Any) -> Any:
        if each is None:
            return None
        if not isinstance(each, jax.Array):
            each = each.numpy() if hasattr(each, "numpy") and not isinstance(each, np.ndarray) else np.asarray(each)
            each = each.astype(jax.dtypes.canonicalize_dtype(each.dtype), copy=False)
        if size is not None and each.ndim and each.shape[0] < size:
            each = np.concatenate([each, np.repeat(each[-1:], size - len(each), 0)])
        return each

    return jax.tree.map(leaf, value, is_leaf=lambda each: not isinstance(each, list | tuple | dict))


def _type_of(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=getattr(leaf, "weak_type", False))


def _host(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _first(output: Any, samples: int) -> Any:
    """The model's output for the real samples, on the host."""
    if output is None:
        return None
    values = np.asarray(output)
    return values[:samples] if values.ndim else values


def _activations(layer: Layer, value: Any, size: int, real: Any, mask: Any) -> Activations:
    """An activation while its program is traced."""
    _check_rows(layer, value.shape, size)
    threshold = 0.0 if layer.threshold is None else layer.threshold
    return Activations(value, layer.axes, jnp, threshold, mask, real=real)


def _check_rows(layer: Layer, shape: tuple[int, ...], size: int) -> None:
    """**Raises:** `ShapeError` when an activation has another number of samples than the batch."""
    sample = layer.axes.sample
    if shape[sample] != size:
        raise ShapeError(
            f"{layer.site}: axis {sample} of shape {shape} has {shape[sample]} entries, the batch has {size} samples. Say which axis is "
            f"which with axes={{{layer.site.path!r}: ls.Axes(unit=…, sample=…)}}, or leave the site out with exclude=."
        )
