"""`promptward join --once` with the seeded agent in the agent's place."""

import sys
from pathlib import Path

from client.join_command import join
from shared.logs import speak

if __name__ == "__main__":
    speak()
    sys.exit(join(Path(sys.argv[1]), [sys.executable, "-P", "-m", "tests.federation.seeded_agent"], once=True))
