"""What Flower starts for a message, in place of its `flwr-clientapp`: it hands the message's token to the resident agent.

It runs on the bare standard library and ends in a few hundredths of a second; nothing of the bundle is unpacked or loaded.
Arguments: the agent's socket, then what Flower gives its own command.
"""

import json
import socket
import sys


def main(arguments: list[str]) -> int:
    """Return 0 when the agent has answered the message, 1 otherwise; it waits as long as the agent works."""
    path, given = arguments[0], arguments[1:]
    task = {name: given[given.index(f"--{name}") + 1] for name in ("runtime-api-address", "token")}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(path)
        line.sendall(json.dumps(task).encode() + b"\n")
        return 0 if line.recv(16) == b"done\n" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
