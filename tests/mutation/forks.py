"""Runs test files on a copy of the tree, in a process forked from a server that has loaded third parties' modules only.

A fork is ready at once, where a new process would load torch and Flower again for every bug. All that is ours comes from the copy:
the fork drops what it inherited, takes the editable install's finder away and proves afterwards where each module came from.
"""

import gc
import importlib
import json
import multiprocessing
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch

from tests.mutation.bugs import FILES, PACKAGES, ROOT

HEAVY = (
    *("torch", "transformers.models.bert.modeling_bert", "tokenizers", "safetensors.torch", "peft", "opacus.optimizers"),
    *("opacus.accountants", "opendp.prelude", "dp_accounting.pld", "flwr.app", "flwr.clientapp", "flwr.serverapp", "pandas"),
    *("pyarrow.parquet", "scipy.stats", "sklearn.metrics", "hypothesis", "pytest", "pydantic", "rich.table", "jinja2"),
    *("matplotlib.figure", "cryptography", "tomli_w"),
)
OURS = {*PACKAGES, *(Path(name).stem for name in FILES)}
SECONDS = 300.0  # no test file here takes a tenth of this


@dataclass(frozen=True)
class Verdict:
    """What came of a run: how many tests passed, the first test that failed, and what was no test's verdict."""

    passed: int
    failed: str | None
    broken: str | None


class Watcher:
    """A pytest plugin that keeps the verdict. A test fails in its own call; a file or fixture that breaks convicts nothing."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.passed = 0
        self.failed: list[str] = []
        self.broken: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be read."""
        if report.failed:
            self.broken.append(report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how each part of a test ended."""
        if report.failed:
            (self.failed if report.when == "call" else self.broken).append(report.nodeid)
        self.passed += report.passed and report.when == "call"

    @property
    def verdict(self) -> Verdict:
        """What was seen."""
        return Verdict(self.passed, next(iter(self.failed), None), "\n".join(self.broken) or None)


def server() -> ForkServerContext:
    """Return a fork server for the whole process; call it before anything else starts one."""
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(HEAVY))
    return context


def judge(context: ForkServerContext, tree: Path, files: list[str], until_first: bool) -> Verdict:
    """Run test files on a copy of the tree, and return the verdict; raise `RuntimeError` where there is none."""
    process = context.Process(target=_run, args=(tree, files, until_first))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    told = tree / "verdict.json"
    if not told.exists():
        said = (tree / "output").read_text() if (tree / "output").exists() else ""
        raise RuntimeError(f"no verdict on {files} (exit code {process.exitcode}):\n{said[-4000:]}")
    return Verdict(**json.loads(told.read_text()))


def _run(tree: Path, files: list[str], until_first: bool) -> None:
    """Be the fork."""
    gc.freeze()  # what the server loaded is never garbage; looking through it would cost half a second a collection
    os.chdir(tree)
    watcher = Watcher()
    with (tree / "output").open("w") as output, redirect_stdout(output), redirect_stderr(output):
        _forget_ours(tree)
        torch.set_num_threads(1)
        options = ["-q", "-m", "not slow", "--basetemp", str(tree / "tmp"), *(["-x"] if until_first else [])]
        pytest.main([*options, *(f"tests/{name}" for name in files)], plugins=[watcher])
        _require_copies(tree)
    (tree / "verdict.json").write_text(json.dumps(asdict(watcher.verdict)))


def _forget_ours(tree: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in str(getattr(finder, "__module__", ""))]
    sys.path[:] = [str(tree), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
    importlib.invalidate_caches()


def _require_copies(tree: Path) -> None:
    """Raise `RuntimeError` when a module of ours was loaded from elsewhere than the copy."""
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in OURS}
    if "shared" not in ours:
        raise RuntimeError("no module of ours was loaded")
    for name, module in ours.items():
        where = getattr(module, "__file__", None)
        if where and not Path(where).is_relative_to(tree):
            raise RuntimeError(f"{name} came from {where}, not from {tree}")
