import subprocess
import sys

CODE = """
import ctypes, resource
from client.agent import close_memory
close_memory()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_an_agents_memory_is_closed_to_core_dumps_and_other_processes() -> None:
    """PR_GET_DUMPABLE is 0: the kernel gives the process's memory to nobody but root."""
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[-2] == "0 (0, 0)"
