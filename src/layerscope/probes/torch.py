"""The PyTorch probe: hooks that read while the tensor is there, and leave nothing behind.

Never keeps a tensor (`ReLU(inplace=True)` overwrites it), never runs a thread, ignores forwards that autograd repeats in backward.
"""

import copy
import functools
import hashlib
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from .._errors import DtypeError, ShapeError, SiteError
from .._site import WHOLE, Activations
from ..inventory import Layer, Layers
from ..inventory.torch import Trace, in_backward, tensors_in, unwrapped
from ._abstract import AbstractProbe, Read

AMP = {"bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "fp16": torch.float16, "float16": torch.float16}


class TorchProbe(AbstractProbe):
    """Reads a PyTorch model; see `AbstractProbe`.

    **Arguments:** `device` where the model runs meanwhile (None: where it is); `amp` "bf16" or "fp16" runs it under autocast; `forward`
    (model, inputs) → output, instead of the model's own call.
    """

    def __init__(
        self, model: torch.nn.Module, *, device: Any = None, amp: str | None = None, forward: Callable[..., Any] | None = None
    ) -> None:
        if amp is not None and amp not in AMP:
            raise DtypeError(f"amp={amp!r} is no autocast type. Choose one of {', '.join(map(repr, AMP))}, or None.")
        self.model, self.device, self.amp, self.forward = model, device, amp, forward
        self._restore = ExitStack()

    # --- leaving the model as it was ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(_same_random_state())
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore.close()

    # --- our own forwards --------------------------------------------------------------------------------------------------------

    def describe(self, batch: Any, inputs: bool = False) -> Layers:
        trace = Trace(self.model, batch.size, inputs=inputs)
        with trace:
            self._forward(batch)
        return trace.chosen()

    def run(self, batch: Any, layers: tuple[Layer, ...], read: Read) -> tuple[Any, Mapping[Layer, Any]]:
        found: dict[Layer, Any] = {}
        device = _device_of(self.model)
        mask = None if batch.samples.mask is None else torch.from_numpy(np.ascontiguousarray(batch.samples.mask)).to(device)

        def seen(layer: Layer, tensor: torch.Tensor) -> None:
            found[layer] = read(layer, activations(layer, tensor, len(batch.samples), batch.size, mask))

        with Listener(self.model, layers, seen):
            output = self._forward(batch)
        missing = [str(layer.site) for layer in layers if layer not in found]
        if missing:
            raise SiteError(
                f"batch {batch.number}: {', '.join(missing)} did not run, though the first forward ran it. The model's control flow "
                "depends on the data: leave these sites out with exclude=, or measure them with ls.watch around your own calls."
            )
        return _first(output, len(batch.samples)), found

    def _forward(self, batch: Any) -> Any:
        args, kwargs = self._placed(batch.args), self._placed(batch.kwargs)
        autocast = torch.autocast(_device_of(self.model).type, AMP[self.amp]) if self.amp else nullcontext()
        with torch.no_grad(), autocast:
            if self.forward is not None:
                return self.forward(self.model, kwargs or (args[0] if len(args) == 1 else args))
            return self.model(*args, **kwargs)

    def _placed(self, value: Any) -> Any:
        """Inputs as tensors on the model's device; NumPy float64 in the dtype of the model, as nobody trains in NumPy's default."""
        if isinstance(value, np.ndarray):
            wanted = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)
            tensor = torch.from_numpy(np.ascontiguousarray(value))
            value = tensor.to(wanted) if tensor.dtype == torch.float64 else tensor
        if isinstance(value, torch.Tensor):
            return value.to(_device_of(self.model))
        if isinstance(value, Mapping):
            return {key: self._placed(each) for key, each in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(self._placed(each) for each in value)
        return value

    # --- the user's forwards -----------------------------------------------------------------------------------------------------

    @contextmanager
    def watch(
        self, choose: Callable[[Layers], Layers], read: Read, sink: Callable[[Layer, Any], None], port: str
    ) -> Iterator[None]:
        early: list[tuple[Layer, Any]] = []
        lock = threading.Lock()

        def seen_first(layer: Layer, tensor: torch.Tensor) -> None:
            if port == "both" or layer.site.port == port:
                early.append((layer, read(layer, activations(layer, tensor))))

        def seen(layer: Layer, tensor: torch.Tensor) -> None:
            result = read(layer, activations(layer, tensor))
            with lock:  # replicas of DataParallel run in threads
                sink(layer, result)

        with _eager(), ExitStack() as attached:

            def done() -> None:
                layers = {layer.site: layer for layer in choose(trace.chosen()).read}
                for layer, result in early:
                    if layer.site in layers:
                        sink(layers[layer.site], result)
                early.clear()
                attached.close()
                attached.enter_context(Listener(self.model, tuple(layers.values()), seen))

            trace = Trace(self.model, None, seen_first, done, inputs=port != "out")
            attached.enter_context(trace)
            yield

    def untrained(self, seed: int = 0) -> "TorchProbe":
        twin = copy.deepcopy(unwrapped(self.model))
        stuck: list[str] = []
        with _same_random_state():
            torch.manual_seed(seed)
            for path, module in twin.named_modules():
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
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
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


class Listener:
    """Hooks at the chosen sites of a model, as long as the context lasts; `seen` gets each layer with its tensor."""

    def __init__(self, model: torch.nn.Module, layers: tuple[Layer, ...], seen: Callable[[Layer, torch.Tensor], None]) -> None:
        self.root, self.seen, self.here = unwrapped(model), seen, _Here()
        self.modules: dict[str, dict[tuple[int, str], list[Layer]]] = defaultdict(lambda: defaultdict(list))
        self.functions: dict[tuple[str, str, int], Layer] = {}
        for layer in layers:
            site = layer.site
            if site.path.endswith("()"):
                path, _, name = site.path.rpartition(".")
                self.functions[path, name[:-2], site.call] = layer
            else:
                self.modules[site.path][site.call, site.port].append(layer)
        self._hooks = ExitStack()

    def __enter__(self) -> "Listener":
        for path, module in self.root.named_modules():
            wanted = self.modules.get(path)
            if self.functions or path == "" or (wanted and any(port == "in" for _, port in wanted)):
                opens = module.register_forward_pre_hook(Hook(self.opens, path, path == ""), prepend=path == "", with_kwargs=True)
                self._hooks.callback(opens.remove)
            if self.functions or path == "" or wanted:
                closes = module.register_forward_hook(Hook(self.closes, path, path == ""), always_call=True)
                self._hooks.callback(closes.remove)
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.close()

    def opens(self, path: str, whole: bool, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        here = self.here
        if in_backward():
            return
        if whole:
            here.calls.clear()
            here.inside = True
        if self.functions:
            if not here.paths:
                here.calls.clear()
                here.mode = _Functions(self)
                here.mode.__enter__()
            here.paths.append(path)
        wanted = self.modules.get(path)
        if wanted:
            layers = wanted.get((self._call(path, "in"), "in"), ())
            self._give(layers, tensors_in((args, kwargs)))

    def closes(self, path: str, whole: bool, module: torch.nn.Module, args: Any, output: Any) -> None:
        here = self.here
        if in_backward():
            return
        wanted = self.modules.get(path)
        try:
            if wanted and output is not None:
                call = self._call(path, "out")
                layers = wanted.get((call, "out"), ())
                if isinstance(output, torch.Tensor):
                    for layer in layers:
                        if not layer.site.part:
                            self.seen(layer, output)
                else:
                    self._give(layers, tensors_in(output))
        finally:
            if whole:
                here.inside = False
            if self.functions and here.paths:
                here.paths.pop()
                if not here.paths and here.mode is not None:
                    here.mode.__exit__(None, None, None)
                    here.mode = None

    def function(self, name: str, result: Any) -> None:
        """A torch function ran inside the model."""
        here = self.here
        path = here.paths[-1]
        plain = name.rstrip("_")
        layer = self.functions.get((path, plain, self._call(path, f"{plain}()")))
        if layer is not None:
            for tensor in tensors_in(result):
                self.seen(layer, tensor)
                break

    def _call(self, path: str, what: str) -> int:
        """Which use this is in the running forward; a layer that the user calls alone is a forward of its own."""
        here = self.here
        if not here.inside and not here.paths:
            return 0
        number = here.calls[path, what]
        here.calls[path, what] = number + 1
        return number

    def _give(self, layers: "list[Layer] | tuple[()]", tensors: Iterator[torch.Tensor]) -> None:
        if layers:
            parts = list(tensors)
            for layer in layers:
                if layer.site.part < len(parts):
                    self.seen(layer, parts[layer.site.part])


class _Here(threading.local):
    """Where the forward of this thread is."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.inside = False
        self.paths: list[str] = []
        self.mode: _Functions | None = None


class _Functions(TorchFunctionMode):
    """Shows a listener the functions it wants."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.listener = listener
        self.names = {name for _, name, _ in listener.functions}

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if (name in self.names or name.rstrip("_") in self.names) and not in_backward():
            self.listener.function(name, result)
        return result


class Hook:
    """A hook that lives on the user's module only as long as we listen: copied or saved with the module, it becomes inert."""

    def __init__(self, call: Callable[..., None], path: str, whole: bool) -> None:
        self.call, self.path, self.whole = call, path, whole

    def __call__(self, module: torch.nn.Module, *rest: Any) -> None:
        self.call(self.path, self.whole, module, *rest)

    def __deepcopy__(self, memo: Any) -> Any:
        return nullcontext().__exit__

    def __reduce__(self) -> Any:
        # a bound method of the standard library that takes anything and returns None: loads without layerscope
        return getattr, (nullcontext(), "__exit__")


def activations(
    layer: Layer, tensor: torch.Tensor, samples: int | None = None, size: int | None = None, mask: torch.Tensor | None = None
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
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
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
    return Activations(tensor, layer.axes, _namespace(), 0.0 if layer.threshold is None else layer.threshold, mask, host, dtype)


@functools.cache
def _namespace() -> Any:
    import array_api_compat.torch as xp

    return xp


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
def _same_random_state() -> Iterator[None]:
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


