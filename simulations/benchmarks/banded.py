"""When do bands pay? ``python -m simulations.benchmarks.banded``: how noisy running sums are, beside DP-SGD at the same epsilon.

For each rate, number of rounds and epsilon (delta 1e-5): the noise multiplier with b bands, and the root mean square over all
rounds of the noise in a running sum of the releases, over that of DP-SGD. Below 1 the bands pay. Nothing is trained; it takes
a minute.
"""

import math

import numpy as np

from shared.privacy.accounting import calibrate
from shared.privacy.banded import inverse, releases
from shared.privacy.clip import STEPS

DELTA = 1e-5
CASES = ((0.3, 34), (0.1, 100))
EPSILONS = (1.0, 3.0, 8.0, 30.0)


def noise_of_running_sums(rate: float, rounds: int, epsilon: float, bands: int) -> tuple[float, float]:
    """Return the noise multiplier that spends epsilon, and the root mean square noise of running sums, in clip norms."""
    sigma = calibrate(epsilon, DELTA, min(1.0, bands * rate), releases(rounds, bands), STEPS)
    told = np.cumsum(inverse(bands, rounds))  # of one turn's noise in the running sums from there on
    return sigma, sigma * math.sqrt(float(np.cumsum(told**2).mean()))


def main() -> None:
    """Print a table, a line for each rate, number of rounds and epsilon."""
    for rate, rounds in CASES:
        bands = sorted({1, 2, 3, *(b for b in (5, 10) if b * rate <= 1)} - {b for b in (2, 3) if b * rate > 1})
        for epsilon in EPSILONS:
            found = {b: noise_of_running_sums(rate, rounds, epsilon, b) for b in bands}
            said = ", ".join(f"b {b}: {noise / found[1][1]:.2f} (sigma {sigma:.2f})" for b, (sigma, noise) in found.items())
            print(f"rate {rate:g}, {rounds} rounds, epsilon {epsilon:g}: {said}", flush=True)


if __name__ == "__main__":
    main()
