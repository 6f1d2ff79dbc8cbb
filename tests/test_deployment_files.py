"""What docs/deploy/ starts exists: every command line is one that promptward takes, and every file keeps its promises."""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import promptward

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs/deploy"
PROGRAM = shutil.which("systemd-analyze") or ""
UNITS = ("promptward-site.service", "promptward-coordinator.service")
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "UMask": "0077",
    "LimitCORE": "0",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "CapabilityBoundingSet": "",
    "Restart": "always",
    "RestartPreventExitStatus": "2",
    "User": "promptward",
}


def unit(name: str) -> dict[str, str]:
    lines = (DEPLOY / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def parsed(words: list[str]) -> Any:
    return promptward._parser().parse_args(words)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_exists_and_is_confined(name: str) -> None:
    found = unit(name)
    program, *words = found["ExecStart"].split()
    assert program.endswith("/bin/promptward")
    assert parsed(words)
    assert {key: found[key] for key in HARDENED} == HARDENED
    assert int(found["RestartSec"]) > 0
    assert "MemoryDenyWriteExecute" not in found


@pytest.mark.skipif(not PROGRAM, reason="there is no systemd here")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    here = Path(sys.executable).with_name("promptward")
    copy = tmp_path / name
    copy.write_text((DEPLOY / name).read_text().replace("/opt/promptward/.venv/bin/promptward", str(here)))
    found = subprocess.run([PROGRAM, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    told = [line for line in found.stderr.splitlines() if name in line]
    assert told == []


@pytest.mark.parametrize("name", ["coordinator", "hospital"])
def test_a_container_starts_a_command_that_exists_and_is_confined(name: str) -> None:
    service = compose()["services"][name]
    assert parsed(service["command"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}


def test_only_the_coordinator_opens_a_port() -> None:
    services = compose()["services"]
    assert services["coordinator"]["ports"] == ["9092:9092"]
    assert "ports" not in services["hospital"]


def test_the_image_is_pinned_and_its_user_is_nobody() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert bases
    assert all(re.fullmatch(r"python:3\.11-slim-bookworm", base) for base in bases)
    assert "USER 10001:10001" in text
    assert "requirements.lock" in text
    assert 'ENTRYPOINT ["promptward"]' in text
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert compose()["services"]["hospital"]["image"] == f"promptward:{version[1]}"


PAGES = ("docs/deployment.md", "docs/security-office.md", "docs/keys.md", "README.md")


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_pages_exist(page: str) -> None:
    """Every command in backticks or in a block is one of promptward's, with that command's options."""
    [commands] = [action for action in promptward._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    known = commands.choices
    text = (ROOT / page).read_text()
    lines = re.findall(r"`promptward ([^`\n]+)`", text) + re.findall(r"^(?:\S*/)?promptward ([a-z].*?)(?:\s+#.*)?$", text, re.M)
    assert lines
    for command, *words in (line.split() for line in lines):
        assert command in known
        helped = known[command].format_help()
        assert [w for w in words if w.startswith("--") and command not in ("keys", "doctor") and w not in helped] == []
