"""The PyTorch probe: hooks that read while the tensor is there, and leave nothing behind.

Never keeps a tensor (`ReLU(inplace=True)` overwrites it), never runs a thread, ignores forwards that autograd repeats in backward.
"""

import copy
import functools
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from .._errors import DtypeError, ShapeError, SiteError
from .._site import WHOLE, Activations, Chunk
from ..inventory import Layer, Layers
from ..inventory._select import NO_UNITS_FIRE
from ..inventory.torch import Trace, in_functorch, tensors_in, unwrapped
from ._abstract import AbstractProbe, Read
from .hooks.torch import CHANGING, Functions, Hooks, Listener, OneThread, Wanted, Watcher

AMP = {"bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "fp16": torch.float16, "float16": torch.float16}


class TorchProbe(AbstractProbe):
    """Reads a PyTorch model; see `AbstractProbe`.

    **Arguments:** `device` where the model runs meanwhile (None: where it is); `amp` "bf16" or "fp16" runs it under autocast; `forward`
    (model, inputs) → output, instead of the model's own call.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        device: Any = None,
        amp: str | None = None,
        forward: Callable[..., Any] | None = None,
    ) -> None:
        if amp is not None and amp not in AMP:
            raise DtypeError(f"amp={amp!r} is no autocast type. Choose one of {', '.join(map(repr, AMP))}, or None.")
        _check_runs(model, device)
        self.model, self.device, self.amp, self.forward = model, device, amp, forward
        self._restore = ExitStack()
        self._ran: frozenset[str] = frozenset(path for path, _ in self._root.named_modules())
        self._found: Layers | None = None
        self._hooks, self._alone = ExitStack(), OneThread(Trace())
        self._layers: tuple[Layer, ...] | None = None
        self._listener: tuple[Listener, bool] = Listener(Wanted(()), _nobody), False

    # --- leaving the model as it was ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(same_random_state())
            modes = [(module, module.training) for module in self.model.modules()]
            undo.callback(lambda: [module.__dict__.__setitem__("training", mode) for module, mode in modes])
            home = _device_of(self.model)
            if self.device is not None and torch.device(self.device) != home:
                undo.callback(self.model.to, home)
                self.model.to(self.device)
            self.model.eval()
            undo.enter_context(_eager())
            self._restore = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._layers = None
        self._hooks.close()
        self._restore.close()

    # --- our own forwards --------------------------------------------------------------------------------------------------------

    def describe(self, batch: Any, inputs: bool = False) -> Layers:
        trace = Trace(batch.size, inputs=inputs)
        self._place(trace, lambda path: True)
        try:
            with self._followed(trace, functions=True):
                trace.gave(self._forward(batch, trace.given))
        finally:
            self._hooks.close()
        self._ran = frozenset(path for path, _ in trace.ran)
        self._found = trace.found()
        return self._found

    def run(self, batch: Any, layers: tuple[Layer, ...], read: Read) -> tuple[Any, Mapping[Layer, Mapping[Any, Chunk]]]:
        found: dict[Layer, Mapping[Any, Chunk]] = {}
        given = batch.samples.mask
        mask = None if given is None else torch.from_numpy(np.ascontiguousarray(given)).to(_device_of(self.model))

        def seen(layer: Layer, tensor: torch.Tensor) -> None:
            found[layer] = read(layer, activations(layer, tensor, len(batch.samples), batch.size, mask))

        listener, functions = self._listening(layers)
        with self._followed(listener.again(seen), functions):
            output = self._forward(batch)
        missing = [str(layer.site) for layer in layers if layer not in found]
        if missing:
            raise SiteError(
                f"batch {batch.number}: {', '.join(missing)} did not run, though the first forward ran it. {CHANGING}"
            )
        if listener.unknown:
            raise SiteError(
                f"batch {batch.number}: {', '.join(listener.unknown)} ran, though the first forward did not run it. {CHANGING}"
            )
        return _first(output, len(batch.samples)), found

    def _listening(self, layers: tuple[Layer, ...]) -> tuple[Listener, bool]:
        """A listener at these sites, and whether functions are among them; its hooks stay, as placing them costs as much as reading."""
        if self._layers is not layers:
            wanted = Wanted(layers)
            listener, functions = Listener(wanted, _nobody, self._news(layers)), bool(wanted.functions)

            def needed(path: str) -> bool:  # functions are named after the module they run in
                return functions or path in wanted.modules or path not in self._ran

            self._place(listener, needed)
            self._layers, self._listener = layers, (listener, functions)
        return self._listener

    def _place(self, follower: Trace | Listener, wanted: Callable[[str], bool]) -> None:
        """Hooks for this follower, in place of those before; they do nothing but inside `_followed`."""
        self._hooks.close()
        self._layers, self._alone = None, OneThread(follower)
        self._hooks.enter_context(Hooks(self._root, self._alone, wanted))

    @contextmanager
    def _followed(self, follower: Trace | Listener, functions: bool) -> Iterator[None]:
        alone = self._alone
        with alone, Functions(follower) if functions else nullcontext():
            yield
        if alone.others:
            raise SiteError(
                f"{', '.join(path or WHOLE for path in alone.others)} ran in another thread, where the order of calls is nobody's. Is there a "
                "DataParallel inside the model? Take it out for this, or use ls.watch around your own calls."
            )

    def _news(self, layers: tuple[Layer, ...]) -> Callable[[str, torch.nn.Module], bool]:
        """Whether a module that did not run in the first forward would have been chosen.

        The choice itself is not known here: all sites of a class were chosen, or it was the default and the class may fire.
        """
        found = self._found or ()
        chosen = {layer.site for layer in layers}
        by_default = self._found is not None and chosen == {layer.site for layer in self._found.read}
        no_news = {x.kind for x in found if (x.role in NO_UNITS_FIRE if by_default else x.site not in chosen)}
        kinds = {layer.kind for layer in layers}

        def news(path: str, module: torch.nn.Module) -> bool:
            kind = type(module).__name__
            leaf = not any(True for _ in module.children())
            return path not in self._ran and kind not in no_news and (kind in kinds or (by_default and leaf))

        return news

    @property
    def _root(self) -> torch.nn.Module:
        return unwrapped(self.model)

    def _forward(self, batch: Any, given: Callable[[Iterable[torch.Tensor]], None] | None = None) -> Any:
        args, kwargs = self._placed(batch.args), self._placed(batch.kwargs)
        if given is not None:
            given(tensors_in((args, kwargs)))
        autocast = torch.autocast(_device_of(self.model).type, AMP[self.amp]) if self.amp else nullcontext()
        with torch.no_grad(), autocast:
            if self.forward is not None:
                return self.forward(self.model, kwargs or (args[0] if len(args) == 1 else args))
            return self._root(*args, **kwargs)  # without replicas, and without waiting for other processes

    def place(self, inputs: Any) -> Any:
        return inputs.to(_device_of(self.model)) if isinstance(inputs, torch.Tensor) else inputs

    def _placed(self, value: Any) -> Any:
        """Inputs as tensors on the model's device; NumPy float64 in the dtype of the model, as nobody trains in NumPy's default.

        They are copies: a forward that works in place must not reach the user's data, nor what the next network is given.
        """
        if isinstance(value, np.ndarray):
            wanted = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)
            tensor = torch.from_numpy(np.ascontiguousarray(value))
            value = tensor.to(wanted) if tensor.dtype == torch.float64 else tensor
        if isinstance(value, torch.Tensor):
            return value.to(_device_of(self.model), copy=True)
        if isinstance(value, Mapping):
            return {key: self._placed(each) for key, each in value.items()}
        if isinstance(value, tuple | list):
            placed = [self._placed(each) for each in value]
            return type(value)(*placed) if hasattr(value, "_fields") else type(value)(placed)
        return value

    # --- the user's forwards -----------------------------------------------------------------------------------------------------

    @contextmanager
    def watch(
        self,
        early: Callable[[Layer], Layer | None],
        choose: Callable[[Layers, bool], Layers],
        read: Read,
        sink: Callable[[Layer, Mapping[Any, Chunk]], None],
        inputs: bool = False,
    ) -> Iterator[None]:
        watcher = Watcher(early, choose, lambda layer, tensor: read(layer, activations(layer, tensor)), sink, inputs)
        with _eager(), Hooks(self._root, watcher), watcher:
            yield

    def untrained(self, seed: int = 0) -> "TorchProbe":
        twin = copy.deepcopy(unwrapped(self.model))
        stuck: list[str] = []
        with same_random_state():
            torch.manual_seed(seed)
            for path, module in reversed([*twin.named_modules()]):  # a module may set parameters of those inside it
                reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
                if callable(reset):
                    reset()
                elif any(True for _ in module.parameters(recurse=False)):
                    stuck.append(f"{path or WHOLE} ({type(module).__name__})")
        if stuck:
            raise SiteError(
                f"references=['untrained']: {', '.join(stuck)} have parameters but no reset_parameters(), so nobody here knows how they "
                "start. Pass the untrained network yourself: references={'untrained': MyModel()}."
            )
        return TorchProbe(twin, device=self.device or _device_of(self.model), amp=self.amp, forward=self.forward)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in unwrapped(self.model).state_dict().items():
            if isinstance(tensor, torch.Tensor):
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))  # pyright: ignore[reportArgumentType]
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        plain = unwrapped(self.model)
        return {
            "framework": "torch",
            "framework_version": torch.__version__,
            "model": type(plain).__name__,
            "parameters": sum(p.numel() for p in plain.parameters()),
            "dtype": ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in plain.parameters()})) or "none",
            "device": str(self.device or _device_of(self.model)),
            "amp": self.amp,
            "compiled": plain is not self.model and hasattr(self.model, "_orig_mod"),
        }


def activations(
    layer: Layer,
    tensor: torch.Tensor,
    samples: int | None = None,
    size: int | None = None,
    mask: torch.Tensor | None = None,
) -> Activations:
    """A tensor as a tally reads it: detached, without padded samples, with its memory where the host can see it.

    **Raises:** `ShapeError` when the tensor has another number of samples than the batch, `DtypeError` for complex values.
    """
    sample = layer.axes.sample
    if size is not None and tensor.shape[sample] != size:
        raise ShapeError(
            f"{layer.site}: axis {sample} of shape {tuple(tensor.shape)} has {tensor.shape[sample]} entries, the batch has {size} samples. "
            f"Say which axis is which with axes={{{layer.site.path!r}: ls.Axes(unit=…, sample=…)}}, or leave the site out with exclude=."
        )
    if tensor.dtype.is_complex:
        raise DtypeError(
            f"{layer.site}: complex values ({tensor.dtype}) have no order, so no unit can fire. Leave the site out with exclude=, or "
            "measure a layer that gives real numbers."
        )
    if in_functorch(tensor):
        raise DtypeError(
            f"{layer.site}: the forward runs inside torch.func (vmap or grad), where values cannot be read. Call the model outside it."
        )
    tensor = tensor.detach()
    if samples is not None and samples != tensor.shape[sample]:
        tensor = tensor.narrow(sample, 0, samples)
    host, dtype = None, None
    if tensor.device.type == "cpu" and tensor.layout == torch.strided:
        if tensor.dtype == torch.bfloat16:
            host, dtype = tensor.view(torch.int16).numpy(), "bfloat16"
        else:
            host = (tensor.resolve_neg() if tensor.is_neg() else tensor).numpy()
    elif tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return Activations(
        tensor, layer.axes, _namespace(), 0.0 if layer.threshold is None else layer.threshold, mask, host, dtype
    )


def _nobody(layer: Layer, tensor: torch.Tensor) -> None:
    """Reads nothing: what a listener does before it is asked."""


@functools.cache
def _namespace() -> Any:
    import array_api_compat.torch as xp

    return xp


def _check_runs(model: torch.nn.Module, device: Any) -> None:
    """Raise for models in which nothing can be read, before anything is done to them."""
    tensors = {name: t for name, t in (*model.named_parameters(), *model.named_buffers())}
    lazy = [name for name, t in tensors.items() if torch.nn.parameter.is_lazy(t)]
    if lazy:
        raise SiteError(
            f"model: {', '.join(lazy)} have no shape yet. Call the model once before it is measured: model(batch)."
        )
    meta = [name for name, t in tensors.items() if t.is_meta]
    if meta:
        raise SiteError(
            f"model: {meta[0]} and {len(meta) - 1} more are on the meta device and hold no values. Load the weights first."
        )
    if isinstance(unwrapped(model), torch.jit.ScriptModule):
        raise SiteError(
            "model: a TorchScript module runs outside Python, where its layers cannot be read. Pass the module it was made from."
        )
    devices = {t.device for t in tensors.values()}
    if device is not None and len(devices) > 1:
        raise SiteError(
            f"device={device!r}: the model lies on {', '.join(map(str, devices))}. Leave device= out, and it runs where it is."
        )


def _first(output: Any, samples: int) -> Any:
    """The model's output for the real samples of a batch: its first tensor, or None where there is none."""
    for tensor in tensors_in(output):
        return tensor[:samples] if tensor.dim() else tensor
    return None


def _device_of(model: torch.nn.Module) -> torch.device:
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def same_random_state() -> Iterator[None]:
    """Random numbers of torch, NumPy and Python as if nothing had happened in between."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global state, not ours
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])  # noqa: NPY002
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def _eager() -> Iterator[None]:
    """Compiled models run eagerly meanwhile, and attention takes no fast path: both would pass hooks by in silence."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with torch.compiler.set_stance("force_eager"):
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
