"""The PyTorch probe: hooks that read while the tensor is there, and leave nothing behind.

Never keeps a tensor (`ReLU(inplace=True)` overwrites it), never runs a thread, ignores forwards that autograd repeats in backward.
"""

import copy
import functools
import hashlib
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from .._errors import DtypeError, ShapeError, SiteError
from .._site import WHOLE, Activations, Site
from ..inventory import Layer, Layers
from ..inventory._operations import counts
from ..inventory._select import NO_UNITS_FIRE
from ..inventory.torch import Numbers, Trace, in_backward, name_of, tensors_in, unwrapped
from ._abstract import AbstractProbe, Read

AMP = {"bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "fp16": torch.float16, "float16": torch.float16}

CHANGING = (
    "The model's control flow depends on the data: leave these sites out with exclude=, name others with layers=, or measure with "
    "ls.watch around your own calls."
)


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore.close()

    # --- our own forwards --------------------------------------------------------------------------------------------------------

    def describe(self, batch: Any, inputs: bool = False) -> Layers:
        trace = Trace(batch.size, inputs=inputs)
        with Hooks(self._root, trace), Functions(trace):
            trace.gave(self._forward(batch, trace.given))
        self._ran = frozenset(path for path, _ in trace.ran)
        self._found = trace.found()
        return self._found

    def run(self, batch: Any, layers: tuple[Layer, ...], read: Read) -> tuple[Any, Mapping[Layer, Any]]:
        found: dict[Layer, Any] = {}
        device = _device_of(self.model)
        mask = (
            None
            if batch.samples.mask is None
            else torch.from_numpy(np.ascontiguousarray(batch.samples.mask)).to(device)
        )

        def seen(layer: Layer, tensor: torch.Tensor) -> None:
            if layer in found:
                raise SiteError(
                    f"batch {batch.number}: {layer.site} was read twice in one forward; run the model in one thread."
                )
            found[layer] = read(layer, activations(layer, tensor, len(batch.samples), batch.size, mask))

        wanted = Wanted(layers)
        listener = Listener(wanted, seen, self._news(layers))

        def needed(path: str) -> bool:  # functions are named after the module they run in
            return bool(wanted.functions) or path in wanted.modules or path not in self._ran

        with Hooks(self._root, listener, needed), Functions(listener) if wanted.functions else nullcontext():
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
        self,
        early: Callable[[Layer], Layer | None],
        choose: Callable[[Layers, bool], Layers],
        read: Read,
        sink: Callable[[Layer, Any], None],
        inputs: bool = False,
    ) -> Iterator[None]:
        watcher = Watcher(early, choose, lambda layer, tensor: read(layer, activations(layer, tensor)), sink, inputs)
        with _eager(), Hooks(self._root, watcher), watcher:
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


class Wanted:
    """The chosen sites, by the call at which they are read."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.modules: dict[str, dict[tuple[int, str], list[Layer]]] = {}
        self.functions: dict[tuple[str, str], dict[int, Layer]] = {}
        for layer in layers:
            site = layer.site
            if site.path.endswith("()"):
                path, _, name = site.path.rpartition(".")
                self.functions.setdefault((path, name[:-2]), {})[site.call] = layer
            else:
                self.modules.setdefault(site.path, {}).setdefault((site.call, site.port), []).append(layer)


class Listener:
    """Follows one forward and reads the chosen sites; `seen` gets each layer with its tensor.

    `news` are paths and classes of modules that did not run before and should not now; they, and calls beyond the chosen ones where all
    were chosen, are named in `unknown`.
    """

    def __init__(
        self,
        wanted: Wanted,
        seen: Callable[[Layer, torch.Tensor], None],
        news: Callable[[str, torch.nn.Module], bool] | None = None,
    ) -> None:
        self.wanted, self.seen, self.news = wanted, seen, news
        self.numbers, self.unknown = Numbers(), dict[str, None]()
        self._calls: list[tuple[str, torch.nn.Module, int, BaseException | None]] = []

    def opens(self, path: str, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        call = self.numbers.next(path)
        self._calls.append((path, module, call, sys.exception()))
        wanted = self.wanted.modules.get(path)
        if wanted is not None:
            if (layers := wanted.get((call, "in"))) is not None:
                self._give(layers, (args, kwargs))
            self._check_known(path, call, {known for known, _ in wanted})
        elif self.news is not None and self.news(path, module):
            self.unknown[path] = None

    def closes(self, path: str, module: torch.nn.Module, output: Any) -> None:
        if not self._calls or self._calls[-1][:2] != (path, module):
            return  # it never opened: a hook of the user raised before ours
        _, _, call, outside = self._calls.pop()
        wanted = self.wanted.modules.get(path)
        if wanted is not None and sys.exception() is outside and (layers := wanted.get((call, "out"))) is not None:
            self._give(layers, output)

    def function(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], run: Callable[[], Any]) -> Any:
        """Run one torch function of the forward, and read its result where it is a chosen site."""
        result = run()
        if counts(name := name_of(func)):
            path = self._calls[-1][0] if self._calls else ""
            call = self.numbers.next(path, name)
            if (wanted := self.wanted.functions.get((path, name))) is not None:
                if (layer := wanted.get(call)) is not None:
                    self._give([layer], result)
                self._check_known(f"{path}.{name}()".lstrip("."), call, set(wanted))
        return result

    def _check_known(self, path: str, call: int, known: set[int]) -> None:
        """All calls so far were chosen, and now there is one more."""
        if call == max(known) + 1 == len(known):
            self.unknown[str(Site(path, call))] = None

    def _give(self, layers: list[Layer], value: Any) -> None:
        parts = [value] if isinstance(value, torch.Tensor) else list(tensors_in(value))
        with torch._C.DisableTorchFunction():
            for layer in layers:
                if layer.site.part < len(parts):
                    self.seen(layer, parts[layer.site.part])


class Watcher:
    """Follows the user's own forwards: a forward is the outermost call of any module of the model, in any thread.

    A module call that no forward had before is traced, which shows its sites; all others are listened to. What a forward gave is passed
    on when it is through, so one that raises counts nowhere.
    """

    def __init__(
        self,
        early: Callable[[Layer], Layer | None],
        choose: Callable[[Layers, bool], Layers],
        read: Callable[[Layer, torch.Tensor], Any],
        sink: Callable[[Layer, Any], None],
        inputs: bool,
    ) -> None:
        self.early, self.choose, self.read, self.sink, self.inputs = early, choose, read, sink, inputs
        self._found: dict[Site, Layer] = {}
        self._chosen: dict[Site, Layer] = {}
        self._wanted = Wanted(())
        self._ran: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._here = _Forward()

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = bool(self._here.open)
        self._here.clear()
        if interrupted and kind is None:
            raise SiteError(
                "watch: a forward was interrupted and the with block went on; what came after it was not counted."
            )

    def opens(self, path: str, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        here = self._here
        if here.listener is None:
            here.listener = Listener(self._wanted, self._keep)
        here.open.append((path, module, sys.exception()))
        if here.trace is None and (path, here.listener.numbers.seen[path, ""]) not in self._ran:
            here.trace, here.traced = Trace(None, self._read_early, self.inputs, here.listener.numbers), len(here.open)
        if here.mode is None and (here.trace is not None or here.listener.wanted.functions):
            here.mode, here.moded = Functions(here), len(here.open)
            here.mode.__enter__()
        here.now.opens(path, module, args, kwargs)

    def closes(self, path: str, module: torch.nn.Module, output: Any) -> None:
        here = self._here
        if not here.open or here.open[-1][:2] != (path, module) or here.listener is None:
            return
        failed = sys.exception() is not here.open[-1][2]
        try:
            here.now.closes(path, module, output)
            if here.trace is not None and here.traced == len(here.open) and not failed:
                if not path:
                    here.trace.gave(output)
                here.kept += self._learn(here.trace)
                here.listener.wanted = self._wanted
            if len(here.open) == 1 and not failed:
                self._pass_on(here)
        finally:
            here.close()

    def _pass_on(self, here: "_Forward") -> None:
        unknown = here.listener.unknown if here.listener is not None else {}
        if unknown:
            raise SiteError(f"watch: {', '.join(unknown)} ran, though no forward before did. {CHANGING}")
        with self._lock:
            for layer, result in here.kept:
                self.sink(layer, result)

    def _keep(self, layer: Layer, tensor: torch.Tensor) -> None:
        self._here.kept.append((layer, self.read(layer, tensor)))

    def _read_early(self, layer: Layer, tensor: torch.Tensor) -> Any:
        """Read before the choice is made, by the rules that will hold then; None where it cannot be chosen."""
        ruled = self._chosen.get(layer.site) or (None if layer.site in self._found else self.early(layer))
        return None if ruled is None else self.read(ruled, tensor)

    def _learn(self, trace: Trace) -> list[tuple[Layer, Any]]:
        """The sites of a part of the model that ran for the first time, and what was read there."""
        with self._lock:
            whole = ("", 0) in trace.ran
            found = {layer.site: layer for layer in trace.found()}
            if whole:  # it knows the order, and what is only the model's output
                known = {
                    site: replace(self._found.get(site, layer), left_out=layer.left_out)
                    for site, layer in found.items()
                }
                self._found = known | {site: layer for site, layer in self._found.items() if site not in found}
            else:
                self._found = found | self._found
            self._chosen = {layer.site: layer for layer in self.choose(Layers(self._found.values()), whole).read}
            self._wanted = Wanted(self._chosen.values())
            self._ran |= trace.ran
            read = [site for site in trace.layers if site in self._chosen]
            assert all(trace.values.get(site) is not None for site in read), (
                "early must give every layer that can be chosen"
            )
            return [(self._chosen[site], trace.values[site]) for site in read]


class _Forward(threading.local):
    """The forward that runs in this thread: its open calls, who follows it, and what was read."""

    def __init__(self) -> None:
        self.open: list[tuple[str, torch.nn.Module, BaseException | None]] = []
        self.kept: list[tuple[Layer, Any]] = []
        self.listener: Listener | None = None
        self.trace: Trace | None = None
        self.mode: Functions | None = None
        self.traced = self.moded = 0

    @property
    def now(self) -> Any:
        return self.trace or self.listener

    def function(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], run: Callable[[], Any]) -> Any:
        return self.now.function(func, args, kwargs, run)

    def close(self) -> None:
        """The innermost call is through, and what began with it ends with it."""
        depth = len(self.open)
        if self.mode is not None and self.moded == depth:
            self.mode.__exit__(None, None, None)
            self.mode = None
        if self.traced == depth:
            self.trace, self.traced = None, 0
        self.open.pop()
        if not self.open:
            self.kept, self.listener = [], None

    def clear(self) -> None:
        """Close what an interrupted forward left open."""
        while self.open:
            self.close()


class Functions:
    """Hands every torch function that runs in this thread to whoever follows the forward, as long as the context lasts.

    One mode serves all followers of a thread, because hooks close in another order than they open.
    """

    def __init__(self, follower: Any) -> None:
        self.follower = follower

    def __enter__(self) -> "Functions":
        _MODES.followers.append(self.follower)
        if len(_MODES.followers) == 1:
            _MODES.mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        _MODES.followers[:] = [each for each in _MODES.followers if each is not self.follower]
        if not _MODES.followers:
            _MODES.mode.__exit__(None, None, None)


class _Mode(TorchFunctionMode):
    """The mode of a thread; each follower runs the function through the next."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        run = partial(func, *args, **(kwargs or {}))
        if not in_backward():
            for follower in _MODES.followers:
                run = partial(follower.function, func, args, kwargs or {}, run)
        return run()


class _Modes(threading.local):
    def __init__(self) -> None:
        self.followers: list[Any] = []
        self.mode = _Mode()


_MODES = _Modes()


class Hooks:
    """A pair of hooks at the modules of a model, at those paths that are `wanted`, as long as the context lasts."""

    def __init__(self, root: torch.nn.Module, follower: Any, wanted: Callable[[str], bool] = lambda path: True) -> None:
        self.root, self.follower, self.wanted = root, follower, wanted
        self._placed = ExitStack()

    def __enter__(self) -> "Hooks":
        for path, module in self.root.named_modules():
            if self.wanted(path):
                opens = module.register_forward_pre_hook(Hook(self.follower.opens, path), with_kwargs=True)
                closes = module.register_forward_hook(Hook(self.follower.closes, path, after=True), always_call=True)
                self._placed.callback(opens.remove)
                self._placed.callback(closes.remove)
        return self

    def __exit__(self, *error: Any) -> None:
        self._placed.close()


class Hook:
    """A hook that lives on the user's module only as long as we listen: copied or saved with the module, it becomes inert."""

    def __init__(self, call: Callable[..., None], path: str, after: bool = False) -> None:
        self.call, self.path, self.after = call, path, after

    def __call__(self, module: torch.nn.Module, args: Any, given: Any) -> None:
        if in_backward():
            return
        with torch._C.DisableTorchFunction():  # what is done here is no part of the model
            if self.after:
                self.call(self.path, module, given)
            else:
                self.call(self.path, module, args, given)

    def __deepcopy__(self, memo: Any) -> Any:
        return nullcontext().__exit__

    def __reduce__(self) -> Any:
        # a bound method of the standard library that takes anything and returns None: loads without layerscope
        return getattr, (nullcontext(), "__exit__")


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
    return Activations(
        tensor, layer.axes, _namespace(), 0.0 if layer.threshold is None else layer.threshold, mask, host, dtype
    )


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
