"""Why the epsilon of the continuous Gaussian holds for integers with discrete Gaussian noise, and by how much it is off.

Notation: ``rho_t(z) = exp(-z^2 / (2 t^2))``; N_Z(m, s^2) is the discrete Gaussian ``P(x) = rho_s(x - m) / rho_s(Z)`` on the
integers, m an integer; r is `SMOOTH`; ``s1^2 = s^2 - r^2``; ``e = 2 sum_{k>=1} exp(-2 pi^2 r^2 k^2)``, which is `uneven(r)`.

**Lemma** (after Peikert 2010, theorem 3.1, with a continuous first step). Draw y from N(m, s1^2) on the real line, then x from
the integers with probability ``rho_r(x - y) / rho_r(Z - y)``, a step that does not know m. The law P of x obeys
``exp(-eta) <= P(x) / N_Z(m, s^2)(x) <= exp(eta)`` for every x, with ``eta = log((1 + e) / (1 - e))``.

*Proof.* By Poisson summation ``rho_r(Z - y) = r sqrt(2 pi) (1 + 2 sum_{k>=1} exp(-2 pi^2 r^2 k^2) cos(2 pi k y))``, which for
every y lies within ``r sqrt(2 pi) (1 ± e)``. With that denominator pulled out, completing the square leaves
``integral of rho_s1(y - m) rho_r(x - y) dy / (2 pi s1 r) = rho_s(x - m) / (s sqrt(2 pi))``, so that P(x) is this density times
a factor in ``[1/(1 + e), 1/(1 - e)]``. N_Z divides the same ``rho_s(x - m)`` by ``rho_s(Z)``, which lies within
``s sqrt(2 pi) [1, 1 + e]``, because s > r and m is an integer. The quotient of the two is within ``exp(±eta)``. ∎

**Theorem.** Take any adaptive sequence of n releases, each the sum of integer vectors of a Poisson draw of patients, of at most
d coordinates, plus independent N_Z(0, s^2) in every coordinate, where one patient moves a sum by at most D in L2 norm. Let the
n releases with continuous noise N(0, s1^2) in its place be (eps, delta')-private, and ``H = n d eta``. Then the integers are
(eps + 2 H, exp(H) delta')-private, so that ``epsilon_integers(delta) <= epsilon_continuous(delta exp(-H)) + 2 H``.

*Proof.* Given the draw and all earlier integers, each coordinate's law is within ``exp(±eta)`` of that of the lemma's x. Mixing
over draws and multiplying along the sequence keeps such factors: the law A of all n d integers is within ``exp(±H)`` of the law
A' in which every release is the lemma's second step applied to a continuous release. That step knows neither draw nor sum, so
A' is post-processing of the continuous sequence, adaptive choices included. For every event E, and B, B' on neighbouring data:
``A(E) <= exp(H) A'(E) <= exp(H) (exp(eps) B'(E) + delta') <= exp(eps + 2 H) B(E) + exp(H) delta'``. ∎

So the price is the multiplier ``s1 / D`` in place of ``s / D`` (a relative 1e-9 at 47,400 grid steps) and H, which for r = 2 is
2.05e-34 a coordinate: 2e-25 for 1e9 coordinates. It assumes ideal random bits, as all of differential privacy does.
"""

import math

from shared.errors import InputError

SMOOTH = 2.0  # r: eta is 2.05e-34 a coordinate; a larger r would cost noise on coarse grids and gain nothing that a double can hold
COORDINATES = 2**24  # d: more than any prompt of a task card has; `mechanism.release` refuses more


def uneven(smooth: float) -> float:
    """Return e, how far the mass of a discrete Gaussian of this parameter can depend on its centre, relative to its mean.

    ``exp(-2 pi^2 smooth^2 k^2)`` is at most the k-th power of the first term, so a geometric series bounds the sum.
    """
    first = math.exp(-2 * (math.pi * smooth) ** 2)
    return 2 * first / (1 - first)


def slack(releases: int, coordinates: int = COORDINATES, smooth: float = SMOOTH) -> float:
    """Return H of the theorem for this many releases on integers; it adds 2 H to epsilon and divides delta by exp(H)."""
    return releases * coordinates * 2 * math.atanh(uneven(smooth))


def continuous_multiplier(noise_multiplier: float, steps: float | None) -> float:
    """Return the noise multiplier ``s1 / D`` of the continuous Gaussian that the integers are post-processing of.

    Args:
        noise_multiplier: s / D.
        steps: D, the L2 sensitivity in grid steps; None where the noise is continuous, whose multiplier stays as it is.

    Raises:
        InputError: the noise is not above `SMOOTH` grid steps, where the theorem says nothing.
    """
    if steps is None:
        return noise_multiplier
    scale = noise_multiplier * steps
    if not scale > SMOOTH:
        raise InputError(
            f"noise of {scale:g} grid steps is too coarse for a proven epsilon, which needs more than {SMOOTH:g}; "
            "use a finer grid or more noise."
        )
    return math.sqrt(scale**2 - SMOOTH**2) / steps
