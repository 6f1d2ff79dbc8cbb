"""Stock Flower on Ray, as its quickstarts are written: ``python -m simulations.benchmarks.stock null|opacus SITES ROUNDS``.

Prints a line of JSON: seconds to the end of each round, round 0 first, which has no sites; round 1 waits for Ray to start. `null`
sites return the prompt that they get. `opacus` sites load model, prompt and Opacus anew for each message and take one private
step. Each Ray actor has one processor; Flower's own default is two, which would be slower here.
"""

import functools
import importlib
import json
import math
import os
import sys
import time
import warnings
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from opacus import PrivacyEngine
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoTokenizer

from client.records import Cohort
from shared.backbone import locate
from shared.card import Task
from simulations.benchmarks.steps import ROWS, StockModel, stock_model
from simulations.heart import heart_study
from simulations.options import Changes, Options, varied
from simulations.partition import Scheme
from simulations.study import deal_out

SITES = "PROMPTWARD_STOCK_SITES"


@functools.cache
def cohorts(sites: int) -> tuple[Cohort, ...]:
    """Return the training patients of each site: those of the heart-disease study, dealt out evenly. A process does it once."""
    card = Task.load("heart-disease")
    study = heart_study(card.card.files)
    options = Options(partition="iid")
    task = varied(card, Changes(sites=sites), options, study)
    dealt = deal_out(study, task.card, Scheme.parse("iid"), task.card.hospitals, options.split)
    return tuple(patients.train for patients in dealt.values())


def returned(message: Message, content: RecordDict) -> Message:
    """Return a reply."""
    return Message(content, reply_to=message)


def null_train(message: Message, context: Context) -> Message:
    """Return what came."""
    metrics = MetricRecord({"num-examples": 1})
    return returned(message, RecordDict({"arrays": message.content["arrays"], "metrics": metrics}))


def opacus_train(message: Message, context: Context) -> Message:
    """Load everything, take one private step on a Poisson draw, return the trained tensors."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    card = Task.load("heart-disease").card
    model = stock_model(card.backbone.source)
    arrays: Any = message.content["arrays"]
    model.load_state_dict(arrays.to_torch_state_dict(), strict=False)
    cohort = cohorts(int(os.environ[SITES]))[int(context.node_config["partition-id"])]
    _one_step(model, cohort, card)
    metrics = MetricRecord({"num-examples": cohort.size})
    return returned(message, RecordDict({"arrays": ArrayRecord(trained(model)), "metrics": metrics}))


def _one_step(model: StockModel, cohort: Cohort, card: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(locate(card.backbone.source), local_files_only=True)
    tokens = tokenizer(list(cohort.texts), padding=True, truncation=True, max_length=card.backbone.max_tokens, return_tensors="pt")
    data = TensorDataset(tokens["input_ids"], tokens["attention_mask"], torch.tensor(cohort.labels))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loader = DataLoader(data, batch_size=math.ceil(card.privacy.sample_rate * cohort.size))
    model, optimizer, loader = PrivacyEngine().make_private(
        module=model.train(),
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=card.privacy.noise_multiplier,
        max_grad_norm=card.privacy.clip_norm,
    )
    ids, mask, labels = next(iter(loader))
    if len(ids) == 0:  # nobody was drawn; stock parts stop at an empty batch
        return
    functional.cross_entropy(model(ids, mask), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def trained(model: StockModel) -> dict[str, Tensor]:
    """Return the tensors that move."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith("body.")}


def main(kind: str, sites: int, rounds: int) -> None:
    """Run the federation and print when its rounds ended."""
    began, server, client = time.time(), ServerApp(), ClientApp()
    ends, replied = list[float](), list[int]()
    os.environ[SITES] = str(sites)
    start = {"prompt": torch.zeros(ROWS + 2, 384)}
    if kind == "opacus":
        start = trained(stock_model(Task.load("heart-disease").card.backbone.source))
    client.train()(opacus_train if kind == "opacus" else null_train)

    def seen(number: int, arrays: ArrayRecord) -> MetricRecord:
        assert all(np.isfinite(value).all() for value in arrays.to_numpy_ndarrays())
        ends.append(time.time() - began)
        return MetricRecord()

    def all_replied(replies: list[RecordDict], weighted_by: str) -> MetricRecord:
        replied.append(len(replies))
        return MetricRecord()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites, train_metrics_aggr_fn=all_replied
        )
        strategy.start(grid, ArrayRecord(start), num_rounds=rounds, evaluate_fn=seen)

    own = {"address": "local", "log_to_driver": False}  # never a cluster that somebody else has on this machine
    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": own}
    run_simulation(server, client, sites, backend_config=backend)  # type: ignore[arg-type]
    assert replied == [sites] * rounds, f"of {sites} sites, {replied} replied"
    print(json.dumps(ends))


if __name__ == "__main__":  # by its name, because Ray's actors do not find what stands in __main__
    importlib.import_module("simulations.benchmarks.stock").main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
