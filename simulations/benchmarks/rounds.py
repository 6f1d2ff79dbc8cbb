"""Seconds a round between real processes on this machine: Promptward beside stock Flower 1.39, four sites each, in one run.

``python -m simulations.benchmarks.rounds [ROUNDS]``. Stock Flower runs plain text with a client that returns the array it gets;
Promptward runs TLS, node keys, gateway, ledger, the real model and the real private step of the heart-disease task. Both times
are medians between the ends of two rounds. Stock Flower's clients load nothing, so its figure is its floor.
"""

import hashlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import tomli_w
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import ListNodesRequest, StartRunRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from shared import SILENT
from shared.card import Task
from shared.processes import Child, free_port
from simulations.heart import DATA_TABLE, heart_study, site_tables
from simulations.loopback import World
from simulations.options import Changes, Options, varied

SITES = 4
STOCK_PROJECT = {
    "project": {"name": "stock", "version": "1.0.0", "dependencies": []},
    "tool": {
        "flwr": {"app": {"publisher": "stock", "components": {"serverapp": "stock_server:app", "clientapp": "stock_client:app"}}}
    },
}
STOCK_CLIENT = """
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()
@app.train()
def train(message, context):
    content = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})})
    return Message(content, reply_to=message)
"""
STOCK_SERVER = """
import os, time
import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
app = ServerApp()
def seen(number, arrays):
    with open(os.environ["STOCK_TIMES"], "a") as file:
        file.write(f"{time.time()}\\n")
    return MetricRecord()
@app.main()
def main(grid, context):
    start = ArrayRecord({"prompt": Array(np.zeros((6, 384), np.float32))})
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=4, min_available_nodes=4)
    strategy.start(grid, start, num_rounds=int(os.environ["STOCK_ROUNDS"]), evaluate_fn=seen)
"""


def stock(rounds: int, home: Path) -> list[float]:
    """Run stock Flower; return the times at which its rounds ended."""
    fleet, control, times = f"127.0.0.1:{free_port()}", free_port(), home / "times"
    given = os.environ | SILENT | {"FLWR_HOME": str(home), "STOCK_TIMES": str(times), "STOCK_ROUNDS": str(rounds)}
    given["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{given['PATH']}"
    link = [*("flower-superlink", "--insecure", "--fleet-api-address", fleet), *("--host", "127.0.0.1", "--port", str(control))]
    node = ("flower-supernode", "--insecure", "--superlink", fleet, "--host", "127.0.0.1", "--port")
    commands = [link, *([*node, str(free_port())] for _ in range(SITES))]
    children = [Child(f"stock {n}", command, given, home, home / "log") for n, command in enumerate(commands)]
    for child in children:
        child.start()
    try:
        _start_stock(f"127.0.0.1:{control}")
        while len(lines := times.read_text().split() if times.exists() else []) < rounds + 1:
            time.sleep(0.2)
        return [float(line) for line in lines]
    finally:
        for child in reversed(children):
            child.stop()


def _start_stock(control: str) -> None:
    """Start the run when all nodes are online."""
    interceptors = [RuntimeVersionHttpInterceptor(component_name="benchmark")]
    client = ControlHttpClient.from_server_address(control, insecure=True, root_certificates=None, interceptors=interceptors)
    while True:
        try:
            if len(client.ListNodes(ListNodesRequest()).nodes_info) >= SITES:
                break
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    files = {"pyproject.toml": tomli_w.dumps(STOCK_PROJECT), "stock_client.py": STOCK_CLIENT, "stock_server.py": STOCK_SERVER}
    app = build_fab_from_files({name: text.encode() for name, text in files.items()})[0]
    client.StartRun(StartRunRequest(fab=fab_to_proto(Fab(hashlib.sha256(app).hexdigest(), app, {}))))
    client.close()


def promptward(rounds: int, home: Path) -> list[float]:
    """Run four real hospitals; return the times at which the rounds' checkpoints were written."""
    card = Task.load("heart-disease")
    study = heart_study(card.card.files)
    task = varied(card, Changes(rounds=rounds), Options(), study)
    world = World(home, task).build(site_tables(study, task.card.plan.sites), DATA_TABLE)
    try:
        serve = world.serve()
        for name in task.card.plan.sites:
            world.join(name)
        if serve.wait(900) != 0:
            raise RuntimeError(serve.text())
    finally:
        world.stop()
    return sorted(path.stat().st_mtime for path in (world.run / "checkpoints").glob("*.npz"))


def main() -> None:
    """Run both and print the medians and their ratio."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    medians = {}
    for name, run in (("stock Flower 1.39", stock), ("Promptward", promptward)):
        with tempfile.TemporaryDirectory() as folder:
            times = run(rounds, Path(folder))
        gaps = [after - before for before, after in itertools.pairwise(times[1:])]
        medians[name] = statistics.median(gaps)
        print(f"{name}: {medians[name]:.2f} s a round (median of {len(gaps)}; {min(gaps):.2f} to {max(gaps):.2f})", flush=True)
    print(f"ratio: {medians['Promptward'] / medians['stock Flower 1.39']:.2f}")


if __name__ == "__main__":
    main()
