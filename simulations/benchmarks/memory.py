"""Memory at 1,000 sites against 10, with the same patients: ``python -m simulations.benchmarks.memory [PATIENTS]``.

Both runs hold the same records, so that what is left of the difference is what sites cost. Peak of the process tree, whole runs
of three rounds.
"""

import sys
import tempfile
from pathlib import Path

from simulations.benchmarks.turns import conditions
from simulations.benchmarks.watch import cost, python


def main(patients: int) -> None:
    """Print both peaks and their ratio."""
    found = {}
    for sites in (10, 1000):
        with tempfile.TemporaryDirectory() as folder:
            words = ["--sites", str(sites), "--rounds", "3", "--engine", "batched", "--data", f"synthetic:{patients}"]
            command = [*python("-m", "promptward", "simulate"), *words, "--out", str(Path(folder) / "run")]
            found[sites] = cost(command, {"OMP_NUM_THREADS": "1"})
        print(f"{sites} sites: {found[sites].memory / 1e6:.0f} MB, {found[sites].wall:.0f} s", flush=True)
    print(conditions())
    print(f"RATIO memory, 1,000 sites over 10: {found[1000].memory / found[10].memory:.2f}, floor <= 1.2")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
