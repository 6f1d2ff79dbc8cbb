"""What one lying hospital does to each aggregation, on the demonstration: `python -m simulations.benchmarks.lying_site`.

Every run is the real one, with Flower's apps in one process; only the liar's private step is another. Noise is from the float
path, which has the same law and is faster. It prints the table of docs/robustness.md.
"""

import argparse
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from client.round import LocalPlan, Pool, answer, patient_gradients
from server.checks import norm_bound
from shared.card import Task
from shared.privacy.mechanism import Update, decode, encode
from shared.privacy.source import Source
from shared.prompt import Array
from shared.scoring import Scorer
from simulations.evaluate import score
from simulations.federation import Federation, Stopwatch, prepare, run_seed
from simulations.options import Changes, Options, varied
from simulations.partition import Scheme
from simulations.study import deal_out


@dataclass(frozen=True)
class Liar:
    """A site that sends something else than its update, of an L2 norm that the coordinator lets pass.

    Attributes:
        site: its name.
        kind: `flipped`: its own noised update, turned round and made as large as it may be. `loud` and `hidden`: straight
            up its own patients' loss, without noise.
        norm: of what it sends.
    """

    site: str
    kind: str
    norm: float

    def __call__(self, pool: Pool, prompt: Array, plan: LocalPlan, scorer: Scorer, source: Source, *purpose: str | int) -> Update:
        """Do as `client.round.answer` does, everywhere but at the lying site."""
        if self.site not in purpose:
            return answer(pool, prompt, plan, scorer, source, *purpose)
        if self.kind == "flipped":
            mine = decode(answer(pool, prompt, plan, scorer, source, *purpose), plan.mechanism)
        else:
            everyone = np.arange(pool.patients)
            mine = patient_gradients(pool, everyone, torch.from_numpy(np.array(prompt)), scorer).sum(0).double().numpy()
        lie = mine * (-self.norm / np.linalg.norm(mine))
        return encode(np.rint(lie / plan.mechanism.grid) if plan.mechanism.exact else lie, plan.mechanism)


def liar(federation: Federation, site: str, kind: str) -> Liar:
    """Return a liar as loud as the coordinator's bound lets it be, or one whose lie has the norm of an honest site's noise."""
    size = federation.initial.size
    loud = 0.99 * norm_bound(federation.task.card, federation.mechanism, size)
    return Liar(site, kind, federation.mechanism.noise_std * math.sqrt(size) if kind == "hidden" else loud)


def outcome(federation: Federation, seed: int, step: Callable[..., Update]) -> tuple[float, float]:
    """Return pooled AUC and mean-of-sites accuracy of one run."""
    with tempfile.TemporaryDirectory() as folder:
        prompt, _ = run_seed(federation, seed, Path(folder), Stopwatch(), lambda _: None, step)
    scores = score(prompt, federation.tests, federation.scorer)
    return scores.pooled_auc or math.nan, scores.mean_of_sites_accuracy


def federation_of(partition: str, sites: int) -> Federation:
    """Return the demonstration's federation on the float path."""
    options, task = Options(partition), Task.load("heart-disease")
    study = options.study(task)
    task = varied(task, Changes(sites=sites), options, study)
    made = prepare(task, deal_out(study, task.card, Scheme.parse(partition), task.card.plan.sites, options.split), private=True)
    return replace(made, mechanism=replace(made.mechanism, exact=False))


def with_rule(federation: Federation, rule: str, tolerate: int | None) -> Federation:
    """Return the same federation with another aggregation."""
    task = federation.task
    plan = task.card.plan.model_copy(update={"aggregation": rule, "tolerate": tolerate})
    return replace(federation, task=Task(task.card.model_copy(update={"plan": plan}), task.text, task.digest))


def main() -> None:
    """Print one line a setting: means over the seeds of pooled AUC and mean-of-sites accuracy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--partition", default="natural")
    args = parser.parse_args()
    federation = federation_of(args.partition, args.sites)
    rules = [("sum", None), ("median", None)] + ([("trimmed-mean", 1)] if args.sites > 4 else [])
    for kind in ("honest", "flipped", "loud", "hidden"):
        for rule, tolerate in rules:
            named = with_rule(federation, rule, tolerate)
            step = answer if kind == "honest" else liar(named, federation.task.card.plan.sites[0], kind)
            found = np.array([outcome(named, seed, step) for seed in range(args.seeds)])
            auc, accuracy = found.mean(axis=0)
            print(f"| {args.partition}, {args.sites} | {kind} | {rule} | {auc:.3f} | {accuracy:.3f} |", flush=True)


if __name__ == "__main__":
    main()
