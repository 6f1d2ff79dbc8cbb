"""An agent whose randomness is that of a simulation's seed 0: only a test can start it, by naming it as the agent's command."""

import sys
from dataclasses import dataclass
from pathlib import Path

from client.agent import run
from shared.privacy.source import SimulationSource, Stream


@dataclass(frozen=True)
class AsInSimulation:
    """The streams of `promptward simulate`'s first seed, whatever the run between processes is called."""

    name: str = "seeded for a test"

    def stream(self, *purpose: str | int) -> Stream:
        kind, _run, *rest = purpose
        return SimulationSource(0).stream(kind, "seed0", *rest)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), Path(sys.argv[2]), AsInSimulation()))  # type: ignore[arg-type]
