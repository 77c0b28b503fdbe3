"""Certificates: what is proved about a network's descent, and what a measured descent shows, instead of a claim."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ._alignment import times
from ._array import framework, namespace, numbers
from ._descent import Euler, States
from ._tree import leaves, with_leaves

if TYPE_CHECKING:
    from ._ham import HAM
    from ._layers import Layer

LARGEST = 256
"""Units up to which the whole Hessian of a layer is looked at; of a larger layer as many directions."""


@dataclass(frozen=True)
class Certificate:
    """What holds for the energy of a network.

    **Proved, from the closed forms:** `symmetric` every layer feels every synapse it shapes; `bounded` the energy has a lower bound; `safe_step`
    the largest dt at which Euler never raises the energy, 0.0 where none is known; `exact` exact updates never raise it.
    **Measured, in float64 at `samples` states:** `convex` no negative curvature of a Lagrangian, by layer; `dead` how many directions of a state
    change nothing that the layer shows, on average, by layer; `largest_rise` of the energy in one of `steps` Euler steps of size `dt`, to be
    read against `tolerance`, what rounding alone can do.
    **Besides:** `sound` no reason speaks against a guarantee at all; `together` layers whose units depend on each other, where clamping only some
    of them voids it; `reasons` why something is not proved; `guarantee` all of it in a sentence.
    """

    symmetric: bool
    bounded: bool
    safe_step: float
    exact: bool
    convex: dict[str, bool]
    dead: dict[str, float]
    largest_rise: float
    tolerance: float
    dt: float
    steps: int
    samples: int
    sound: bool
    together: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def guarantee(self) -> str:
        if not self.sound:
            return "no guarantee: there is no proof for " + "; ".join(self.reasons)
        held = [f"Euler with dt up to {self.safe_step:.4g}"] if self.safe_step else []
        held += ["exact updates"] if self.exact else []
        what = " and ".join(held) or "only infinitely small steps"
        return f"{what} never raise the energy" + ("" if self.bounded else ", which may have no lower bound")

    @property
    def rises(self) -> bool:
        """Whether the energy rose by more than rounding can explain."""
        return self.largest_rise > self.tolerance

    def __str__(self) -> str:
        dead = ", ".join(f"{name} {number:g}" for name, number in self.dead.items() if number)
        lines = [
            self.guarantee + ".",
            f"measured: in {self.steps} Euler steps with dt = {self.dt:.4g} from {self.samples} states the energy rose by at most "
            f"{self.largest_rise:.2g} (rounding: {self.tolerance:.2g}){', MORE than rounding' if self.rises else ''}.",
            f"directions of a state that nothing feels: {dead or 'none'}.",
        ]
        if self.together:
            lines.append(
                f"clamp units of {', '.join(self.together)} all together or not at all: they depend on each other."
            )
        return "\n".join([*lines, *(f"not proved: {reason}." for reason in self.reasons)])


def couplings(ham: "HAM") -> tuple[list[list[Any]], list[str]]:
    """N with N[i][j] = Σ B[i][j] √(M_i M_j): how strongly layers bend the energy up against their own curvature; and what has no bound."""
    names = list(ham.layers)
    layers = list(ham.layers.values())
    N: list[list[Any]] = [[0.0] * len(names) for _ in names]
    reasons: list[str] = []
    for c in ham.connections:
        at = [names.index(name) for name in c.layers]
        shapes = tuple(layers[i].shape for i in at)
        B = ham.synapses[c.synapse].coupling(shapes, [layers[i].lagrangian.radius(layers[i].shape) for i in at])
        for a, i in enumerate(at):
            for b, j in enumerate(at):
                curvature = [layers[i].lagrangian.curvature, layers[j].lagrangian.curvature]
                term = times(B[a][b], _root(curvature[0]), _root(curvature[1]))
                if _infinite(term):
                    steep = [names[k] for k, m in zip((i, j), curvature, strict=True) if _infinite(m)]
                    why = (
                        f"the Lagrangian of {', '.join(dict.fromkeys(steep))}" if steep else f"the synapse {c.synapse}"
                    )
                    reasons.append(f"a safe step size, as {why} has no bound on its curvature")
                N[i][j] = N[i][j] + term
    return N, list(dict.fromkeys(reasons))


def _infinite(value: Any) -> bool:
    known = numbers(value)
    return known is not None and bool(np.isinf(known).any())


def _root(value: Any) -> Any:
    known = numbers(value)
    if known is not None:
        return math.sqrt(float(known.max()))
    xp = namespace(value)
    return xp.sqrt(xp.max(value))


def safe_step(ham: "HAM") -> tuple[Any, list[str]]:
    r"""The safe dt, and why there is none.

    Euler on ∂E/∂g is mirror descent of F(g) = Σ L*_l(g_l) + E_syn(g) with mirror map Σ τ_l L*_l / dt. It never raises F where that map minus F
    is convex, that is Σ (τ_l/dt − 1) ∇²L*_l ⪰ ∇²E_syn. As ∇²L*_l ⪰ 1/M_l, it is enough that dt ≤ 1 / λ_max(T^{-1/2} (1 + N) T^{-1/2}).
    **Source:** relative smoothness: Bauschke, Bolte & Teboulle 2017; Lu, Freund & Nesterov 2018.
    """
    asymmetric = [
        f"any descent, as the connection {c.synapse} between {', '.join(c.layers)} is asymmetric"
        for c in ham.connections
        if not c.symmetric
    ]
    if asymmetric:
        return 0.0, asymmetric
    N, reasons = couplings(ham)
    if reasons:
        return 0.0, reasons
    roots = [math.sqrt(layer.tau) for layer in ham.layers.values()]
    rows = [[(float(i == j) + N[i][j]) / (roots[i] * roots[j]) for j in range(len(roots))] for i in range(len(roots))]
    known = [[numbers(value) for value in row] for row in rows]
    if all(value is not None for row in known for value in row):
        return float(1 / np.linalg.eigvalsh(np.array(known, float))[-1]), []
    traced = next(value for row in rows for value in row if numbers(value) is None)
    xp = namespace(traced)
    matrix = xp.stack([xp.stack([xp.asarray(value) + 0 * traced for value in row]) for row in rows])
    return 1 / xp.linalg.eigvalsh(matrix)[-1], []


def exactness(ham: "HAM") -> list[str]:
    """Why exact updates may raise the energy; nothing where they never do."""
    reasons: list[str] = []
    for c in ham.connections:
        synapse = ham.synapses[c.synapse]
        shapes = tuple(ham.layers[name].shape for name in c.layers)
        bends = synapse.coupling(shapes, [1.0] * len(shapes))
        concave = all(numbers(b) == 0 for row in bends for b in row)
        if not concave and (not synapse.alternates or len(set(c.layers)) < len(c.layers)):
            reasons.append(f"exact updates, as the energy of {c.synapse} is not concave in one layer alone")
    return reasons


def boundedness(ham: "HAM") -> list[str]:
    """Why the energy may have no lower bound.

    With L growing as |x|^q, the energy of a layer grows as |g|^p with 1/p + 1/q = 1, and p = ∞ where activations are bounded. By Young's
    inequality a product Π |g_l|^{k_l} is less than that where Σ k_l/p_l < 1. Where the sum is 1 the weights decide.
    """
    reasons: list[str] = []
    quadratic: set[int] = set()
    names = list(ham.layers)
    for c in ham.connections:
        for product in ham.synapses[c.synapse].orders:
            shares = [_share(ham.layers[c.layers[n]], power) for n, power in product]
            load = sum(shares)
            alone = len(product) == 1 and product[0][1] <= 1  # linear in an exponential layer, which grows as g ln g
            if load < 1 - 1e-12 or (alone and load <= 1):
                continue
            multilinear = all(power == 1 for _, power in product)
            if abs(load - 1) < 1e-12 and multilinear and all(s in (0, 0.5) for s in shares):
                quadratic |= {names.index(c.layers[n]) for (n, _), s in zip(product, shares, strict=True) if s}
            else:
                reasons.append(
                    f"a lower bound, as {c.synapse} can grow faster than the energies of {', '.join(c.layers)}"
                )
    if quadratic and not reasons:
        N, unbounded = couplings(ham)
        chosen = sorted(quadratic)
        values = [[numbers(N[i][j]) for j in chosen] for i in chosen]
        if unbounded or np.linalg.eigvalsh(np.array(values, float))[-1] > 1 + 1e-12:
            reasons.append(
                f"a lower bound, as the weights between {', '.join(names[i] for i in chosen)} are too large for layers without saturation"
            )
    return list(dict.fromkeys(reasons))


def _share(layer: "Layer", power: float) -> float:
    """k/p, with 1/p = 1 − 1/q."""
    q = layer.lagrangian.growth
    inverse = 1.0 if math.isinf(q) else 1 - 1 / q
    return 0.0 if inverse == 0 else power * inverse


def on_the_host(ham: "HAM") -> "HAM":
    """The network with its parameters in NumPy, float64."""
    return with_leaves(ham, {path: _plain(value) for path, value in leaves(ham).items()})


def _plain(value: Any) -> Any:
    known = numbers(value)
    if known is None:
        raise TypeError("check: this network is being traced by a compiler. Check it outside of jit.")
    return float(known) if not framework(value) or known.ndim == 0 else known


def drawn(ham: "HAM", samples: int, seed: int) -> States:
    """States of deviation 2, which reach into the saturation of bounded activations."""
    rng = np.random.default_rng(seed)
    return {name: 2 * rng.standard_normal((samples, *layer.shape)) for name, layer in ham.layers.items()}


def curvatures(layer: "Layer", x: NDArray[Any]) -> NDArray[Any]:
    """Eigenvalues of ∇²L at one state, (units,); of a layer of more than `LARGEST` units those of as many units of it."""
    count = min(x.size, LARGEST)
    columns = np.zeros((count, x.size))
    columns[np.arange(count), np.arange(count)] = 1
    many = np.broadcast_to(x, (count, *layer.shape))
    H = layer.hessian(many, columns.reshape(count, *layer.shape)).reshape(count, x.size)[:, :count]
    return np.linalg.eigvalsh((H + H.T) / 2)


def certify(ham: "HAM", xs: Mapping[str, Any] | None, clamp: Any, steps: int, samples: int, seed: int) -> Certificate:
    """The certificate of a network; see `Certificate`."""
    plain = on_the_host(ham)
    states = (
        drawn(plain, samples, seed) if xs is None else {n: np.asarray(numbers(x)) for n, x in ham.enter(xs)[1].items()}
    )
    states = {
        n: x.reshape(math.prod(x.shape[: x.ndim - len(plain.layers[n].shape)]), *plain.layers[n].shape)
        for n, x in states.items()
    }
    count = len(next(iter(states.values())))
    if not count:
        raise DataError(
            "check: there is no state to measure at. Give at least one, or none at all: ham.check() draws its own."
        )

    convex: dict[str, bool] = {}
    dead: dict[str, float] = {}
    for name, layer in plain.layers.items():
        spectra = [curvatures(layer, x) for x in states[name][:8]]
        largest = max(float(np.abs(s).max()) for s in spectra)
        convex[name] = min(float(s.min()) for s in spectra) >= -1e-9 * max(largest, 1e-300)
        dead[name] = float(np.mean([(s <= 1e-12 * max(largest, 1e-300)).sum() for s in spectra]))

    dt, no_step = safe_step(plain)
    no_exact, no_bound = exactness(plain), boundedness(plain)
    against = [f"any descent, as the Lagrangian of {name} is not convex" for name, fine in convex.items() if not fine]
    together = tuple(n for n, layer in plain.layers.items() if layer.lagrangian.axis)
    held = plain.held(clamp, states)
    against += [
        f"any descent, as only some units of {name} are clamped, and they depend on each other"
        for name in together
        if name in held and _partly(held[name], len(plain.layers[name].shape))
    ]
    symmetric = all(c.symmetric for c in plain.connections)
    sound = symmetric and not against
    tried = dt or 0.1 * min(layer.tau for layer in plain.layers.values())
    with np.errstate(over="ignore", invalid="ignore"):  # an exponential layer may run away, which is what is looked for
        run = plain.run(states, steps, Euler(tried), clamp, record="parts")
        sizes = sum(np.abs(part) for parts in (run.layer_energies, run.synapse_energies) for part in parts.values())
        rises = np.diff(run.energies, axis=0)
    rise = float(np.where(np.isnan(rises), math.inf, rises).max(initial=-math.inf))
    size = float(np.nanmax(np.where(np.isfinite(sizes), sizes, 0), initial=0))
    return Certificate(
        symmetric=symmetric,
        bounded=not no_bound,
        safe_step=float(dt) if sound else 0.0,
        exact=sound and not no_exact,
        convex=convex,
        dead=dead,
        largest_rise=max(rise, 0.0),
        tolerance=64 * float(np.finfo(np.float64).eps) * (1 + size),
        dt=float(tried),
        steps=steps,
        samples=count,
        sound=sound,
        together=together,
        reasons=tuple(dict.fromkeys([*against, *no_step, *no_exact, *no_bound])),
    )


def _partly(mask: NDArray[Any], rank: int) -> bool:
    rows = mask.reshape(*mask.shape[: mask.ndim - rank], -1)
    return bool((rows.any(-1) & ~rows.all(-1)).any())
