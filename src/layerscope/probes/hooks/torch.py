"""How a PyTorch forward is followed: hooks at modules, a mode for functions, and who reads what they show.

A follower has `opens`, `closes` and `function`: a `Trace`, which lists what is there, a `Listener`, which reads chosen sites, or a
`Watcher`, which decides for each of the user's calls which of the two it needs.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..._errors import SiteError
from ..._site import Site
from ...inventory import Layer, Layers
from ...inventory._flow import Numbers
from ...inventory._operations import counts
from ...inventory.torch import Trace, in_backward, name_of, tensors_in

CHANGING = (
    "The model's control flow depends on the data: leave these sites out with exclude=, name others with layers=, or measure with "
    "ls.watch around your own calls."
)


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
        self.wanted, self.news = wanted, news
        self.again(seen)

    def again(self, seen: Callable[[Layer, torch.Tensor], None]) -> "Listener":
        """Ready for another forward."""
        self.seen, self.numbers, self.unknown = seen, Numbers(), dict[str, None]()
        self._calls: list[tuple[str, torch.nn.Module, int, BaseException | None]] = []
        return self

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
        if not counts(name := name_of(func)):
            return run()
        path = self._calls[-1][0] if self._calls else ""
        call = self.numbers.next(path, name)
        result = run()
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


class OneThread:
    """Passes on what happens inside its context, in the thread that entered it; in `others` are the modules that other threads ran."""

    def __init__(self, follower: Trace | Listener) -> None:
        self.follower, self.thread, self.others = follower, 0, dict[str, None]()

    def __enter__(self) -> "OneThread":
        self.thread, self.others = threading.get_ident(), {}
        return self

    def __exit__(self, *error: Any) -> None:
        self.thread = 0

    def opens(self, path: str, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        if threading.get_ident() == self.thread:
            self.follower.opens(path, module, args, kwargs)
        elif self.thread:
            self.others[path] = None

    def closes(self, path: str, module: torch.nn.Module, output: Any) -> None:
        if threading.get_ident() == self.thread:
            self.follower.closes(path, module, output)


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
