"""`promptward join` with the leaky agent in the place of ours."""

import sys
from pathlib import Path

from client.join_command import join
from shared.logs import speak

if __name__ == "__main__":
    speak()
    sys.exit(join(Path(sys.argv[1]), [sys.executable, "-P", "-m", "tests.federation.leaky_agent"], once=False))
