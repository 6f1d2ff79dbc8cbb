import subprocess
import sys
from pathlib import Path

import pytest

import promptward

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "simulate",
    "sweep",
    "compare",
    "serve",
    "join",
    "audit",
    "ledger",
    "publish",
    "keys",
    "canaries",
    "doctor",
    "transcript",
    "predict",
    "prompts",
    "serve-model",
    "init",
)


def started(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *(
            [name, "--help"]
            for name in (
                "simulate",
                "sweep",
                "compare",
                "keys",
                "doctor",
                "transcript",
                "audit",
                "serve",
                "join",
                "publish",
                "canaries",
            )
        ),
        *([name, "--help"] for name in ("predict", "prompts", "serve-model", "init")),
        ["keys", "trial", "--help"],
        ["prompts", "import", "--help"],
    ],
)
def test_help_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    run = f"import sys, promptward\ntry: promptward.main({words})\nexcept SystemExit: pass\n"
    code = run + "print({'torch', 'flwr', 'transformers', 'cryptography', 'pydantic'} & set(sys.modules))"
    found = started(code, tmp_path)
    assert "usage: promptward" in found.stdout
    assert found.stdout.strip().endswith("set()")


def test_a_package_of_the_same_name_in_the_working_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "__init__.py").write_text("raise SystemExit('foreign code ran')")
    found = started("import promptward, sys; sys.exit(promptward.main(['ledger', 'show', 'x']))", tmp_path)
    assert found.returncode == 2
    assert "package 'client' would be loaded from outside" in found.stderr
    assert "foreign code ran" not in found.stderr


def test_public_names() -> None:
    assert promptward.Task.load("heart-disease").card.name == "heart-disease"
    with pytest.raises(AttributeError):
        promptward.nothing  # noqa: B018


@pytest.mark.parametrize("module", ["shared.wire", "client.app", "server.app", "simulations.grid"])
def test_flowers_telemetry_is_off_before_flower_is_imported(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower reads the switch once, on import (supercore/telemetry.py)."""
    monkeypatch.delenv("FLWR_TELEMETRY_ENABLED")
    code = f"import {module}, flwr.supercore.telemetry as t; print(t.FLWR_TELEMETRY_ENABLED)"
    assert started(code, ROOT).stdout.strip() == "0"
