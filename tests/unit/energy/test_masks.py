"""Padding is left out of attention exactly: energies, forces, derivatives and descents are those of the shorter sequence."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from layerscope import energy
from layerscope._errors import DataError, DtypeError, ShapeError
from layerscope.energy import HAM
from tests.conftest import require
from tests.unit.energy.autodiff import ALL, FRAMEWORKS, array, compiled, double, gradient, host

RNG = np.random.default_rng(0)
WQ, WK = RNG.standard_normal((2, 4, 3)), RNG.standard_normal((2, 5, 3))
LENGTHS = np.array([[3, 6], [5, 2], [4, 4]])  # queries and keys of three samples, of at most 5 and 6
Q, K = 2 * RNG.standard_normal((3, 5, 4)), 2 * RNG.standard_normal((3, 6, 5))
MASKS = tuple(np.arange(n) < LENGTHS[:, [k]] for k, n in enumerate((5, 6)))
SELF = RNG.standard_normal((3, 5, 4))


def masked(framework: str, lagrangian: Any = None) -> energy.AttentionSynapse:
    return energy.AttentionSynapse(
        array(framework, WQ), array(framework, WK), lagrangian or energy.LSoftmax(1.3), *MASKS
    )


def check_shorter(synapse: Any, framework: str) -> None:
    """A batch of padded sequences against its sequences one by one, cut to their lengths; padding feels nothing."""
    whole, forces = synapse.pull([array(framework, Q), array(framework, K)], [2, 2])
    plain = dataclasses.replace(synapse, query_mask=None, key_mask=None)
    for one, (n, m) in enumerate(LENGTHS):
        alone, pulls = plain.pull([array(framework, Q[one, :n]), array(framework, K[one, :m])])
        assert float(whole[one]) == pytest.approx(float(alone), rel=1e-12)
        for at, length in enumerate((n, m)):
            np.testing.assert_allclose(host(forces[at])[one, :length], host(pulls[at]), rtol=1e-11, atol=1e-12)
            assert (host(forces[at])[one, length:] == 0).all()


@pytest.mark.parametrize("framework", ALL)
@pytest.mark.parametrize("lagrangian", [energy.LSoftmax(1.3), energy.LGhostmax(0.7)], ids=repr)
def test_masked_is_the_shorter_sequence(lagrangian: Any, framework: str) -> None:
    with double(framework):
        check_shorter(masked(framework, lagrangian), framework)


def test_a_mask_that_lets_padding_in_does_not_pass() -> None:
    wrong = dataclasses.replace(masked("numpy"), key_mask=np.ones((3, 6), bool))
    with pytest.raises(AssertionError):
        check_shorter(wrong, "numpy")


@pytest.mark.parametrize("framework", ALL)
def test_what_padding_holds_makes_no_difference_to_the_bit(framework: str) -> None:
    """Also not in float32, and not where padding holds numbers as large as 1e6."""
    with double(framework):
        results = []
        for junk in (0.0, 1.0, 1e6):
            q, k = np.where(MASKS[0][..., None], Q, junk), np.where(MASKS[1][..., None], K, -junk)
            made, forces = masked(framework).pull([array(framework, q), array(framework, k)], [2, 2])
            results.append((host(made), host(forces[0]), host(forces[1])))
        for other in results[1:]:
            for left, right in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_derivatives_are_those_of_the_shorter_sequence(framework: str) -> None:
    """By β, by projections and by states; all finite, and 0 for padding."""
    with double(framework):
        synapse = masked(framework)

        def by_beta(beta: Any) -> Any:
            made = dataclasses.replace(synapse, lagrangian=energy.LSoftmax(beta))
            return made.pull([array(framework, Q), array(framework, K)], [2, 2])[0].sum()

        def by_keys(k: Any) -> Any:
            return synapse.pull([array(framework, Q), k], [2, 2])[0].sum()

        expected = 0.0
        for one, (n, m) in enumerate(LENGTHS):
            plain = energy.AttentionSynapse(array(framework, WQ), array(framework, WK))

            def short(beta: Any, one: int = one, n: int = n, m: int = m, plain: Any = plain) -> Any:
                return dataclasses.replace(plain, lagrangian=energy.LSoftmax(beta)).energy(
                    array(framework, Q[one, :n]), array(framework, K[one, :m])
                )

            expected += float(gradient(framework, short, 1.3))
        assert float(gradient(framework, by_beta, 1.3)) == pytest.approx(expected, rel=1e-9)
        slopes = gradient(framework, by_keys, K)
        assert np.isfinite(slopes).all()
        assert (slopes[~MASKS[1]] == 0).all()
        np.testing.assert_allclose(
            slopes, -host(synapse.pull([array(framework, Q), array(framework, K)], [2, 2])[1][1]), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("framework", ALL)
def test_a_descent_of_padded_sequences(framework: str) -> None:
    """Tokens that are there settle as they would alone, in every framework; energies fall at the safe step."""
    with double(framework):
        synapse = energy.SelfAttentionSynapse(array(framework, WQ), array(framework, WQ), mask=MASKS[0])
        layers = {"t": energy.LayerNormLayer((5, 4), eps=0.1)}
        ham = HAM(layers, {"look": synapse}, [(("t",), "look")])
        run = compiled(framework, lambda ham, xs: ham.run(xs, 8, 0.2))(ham, {"t": array(framework, SELF)})
        for one, (n, _) in enumerate(LENGTHS):
            plain = energy.SelfAttentionSynapse(array(framework, WQ), array(framework, WQ))
            alone = HAM({"t": energy.LayerNormLayer((n, 4), eps=0.1)}, {"look": plain}, [(("t",), "look")])
            end = alone.run({"t": array(framework, SELF[one, :n])}, 8, 0.2).states["t"]
            np.testing.assert_allclose(host(run.states["t"])[one, :n], host(end), rtol=1e-9, atol=1e-11)
        falls = ham.run({"t": array(framework, SELF)}, 30, energy.Safe()).energies
        assert (np.diff(host(falls), axis=0) <= 1e-12).all()


@pytest.mark.jax
def test_another_mask_is_another_program_and_an_equal_one_is_not() -> None:
    jax = require("jax")
    first, second = (energy.SelfAttentionSynapse(WQ, WQ, mask=MASKS[0].copy()) for _ in range(2))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert hash(first.mask) == hash(second.mask)
    other = energy.SelfAttentionSynapse(WQ, WQ, mask=~MASKS[0] | (np.arange(5) == 0))
    assert jax.tree.structure(first) != jax.tree.structure(other)
    assert len(jax.tree.leaves(first)) == len(jax.tree.leaves(energy.SelfAttentionSynapse(WQ, WQ)))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones(5), DtypeError, r"a mask is a known array of True \(there\) and False \(padding\), got float64"),
        (np.ones((2, 2, 5), bool), ShapeError, r"a mask is \(tokens,\) or \(samples, tokens\), got \(2, 2, 5\)"),
        (np.zeros(5, bool), DataError, "a sample has no token at all"),
        (np.array([[True] * 5, [False] * 5]), DataError, "a sample has no token at all"),
        (np.ones(6, bool), ShapeError, "connects a layer of 6 tokens by its mask"),
    ],
)
def test_masks_that_cannot_be(mask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        HAM([energy.IdentityLayer((5, 4))], [energy.SelfAttentionSynapse(WQ, WQ, mask=mask)], [((0,), 0)])


def test_a_mask_of_other_samples_and_scores_that_do_not_compete() -> None:
    with pytest.raises(ShapeError, match="the mask is of 3 samples, the states of 2"):
        masked("numpy").pull([Q[:2], K[:2]], [2, 2])
    with pytest.raises(
        TypeError, match=r"keys can only be left out where they compete, and LRelu\(\) does not make them"
    ):
        energy.AttentionSynapse(WQ, WK, energy.LRelu(), key_mask=MASKS[1])
