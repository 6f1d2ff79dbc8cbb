"""What a coordinator can make Flower start at a hospital: one hand-over, and refusals."""

import json
import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType

from client.flower_node import OURS, REFUSED, environment, write_commands


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    write_commands(tmp_path / "commands", tmp_path / "agent.sock")
    return tmp_path / "commands"


def test_every_command_that_flower_could_start_is_ours(commands: Path) -> None:
    assert {path.name for path in commands.iterdir()} == set(TASK_TYPE_TO_COMMAND.values()) == {OURS, *REFUSED}
    assert TASK_TYPE_TO_COMMAND[TaskType.CLIENT_APP] == OURS
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in commands.iterdir())


@pytest.mark.parametrize("name", REFUSED)
def test_agents_models_and_connectors_are_refused(commands: Path, tmp_path: Path, name: str) -> None:
    found = subprocess.run(
        [name, "--token", "t"], env=dict(environment(commands, tmp_path)), capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert f"refused: a hospital runs no {name}" in found.stderr


@pytest.mark.parametrize(("answer", "code"), [(b"done\n", 0), (b"failed\n", 1), (b"", 1)])
def test_a_message_is_handed_over_by_its_token(commands: Path, tmp_path: Path, answer: bytes, code: int) -> None:
    got: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()

        def agent() -> None:
            line, _ = listener.accept()
            with line:
                got.append(line.recv(4096))
                line.sendall(answer)

        thread = threading.Thread(target=agent)
        thread.start()
        options = ["--runtime-api-address", "127.0.0.1:1", "--token", "secret", "--insecure", "--parent-pid", "1"]
        found = subprocess.run([OURS, *options], env=dict(environment(commands, tmp_path)), capture_output=True, check=False)
        thread.join()
    assert json.loads(got[0]) == {"runtime-api-address": "127.0.0.1:1", "token": "secret"}
    assert found.returncode == code


def test_the_hospitals_processes_load_nothing_from_a_working_directory(commands: Path, tmp_path: Path) -> None:
    given = environment(commands, tmp_path)
    assert given["PYTHONSAFEPATH"] == "1"
    assert given["PATH"].split(os.pathsep)[0] == str(commands)
    assert given["FLWR_TELEMETRY_ENABLED"] == "0"
    assert given["FLWR_DISABLE_UPDATE_CHECK"] == "1"
