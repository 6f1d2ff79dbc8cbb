"""From seeds to `result.json`: means and spreads, intervals, what every site spent, warnings."""

import functools
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from server.robust import in_words
from shared.backbones.protocol import weights_of
from shared.privacy.accounting import Release, Spent, attacker
from shared.privacy.planned import releases_of
from shared.prompt import Array
from simulations.evaluate import Scores, SiteScore, auc_interval, majority_baselines, mean_interval, wilson
from simulations.federation import Federation
from simulations.options import Options
from simulations.personal import gain

VERSIONS = ("promptward", "flwr", "torch", "transformers", "opacus", "dp-accounting", "peft", "numpy")
FEW = 20  # test patients below which a site's numbers say little


@dataclass(frozen=True)
class SeedOutcome:
    """What one seed ended with.

    Attributes:
        seed: its number.
        prompt: the published prompt (P+L, D).
        scores: of that prompt.
        spent: what each site's ledger says.
        lines: of its rounds.
        own: each site's own prompt (P+L, D), none where the card wants none.
        own_scores: of those.
        seconds: how long its rounds took; None where an earlier start ran some of them.
    """

    seed: int
    prompt: Array
    scores: Scores
    spent: Mapping[str, Spent]
    lines: Sequence[Mapping[str, Any]]
    own: Mapping[str, Array] = field(default_factory=dict)
    own_scores: Scores | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds: before the first round, in rounds, in all; and the part of the rounds that the sites' own work took."""

    startup_s: float
    train_s: float
    total_s: float
    work_s: float
    rounds: int  # run by this start; fewer than all when it resumed


def assemble(federation: Federation, options: Options, outcomes: Sequence[SeedOutcome], timing: Timing) -> dict[str, Any]:
    """Return `result.json`'s content."""
    card = federation.task.card
    sites = [_site(federation, name, outcomes) for name in federation.pools]
    scores = [outcome.scores for outcome in outcomes]
    per_site = _per_site(federation, scores)
    return {
        "schema": 1,
        "task": card.name,
        "title": card.title,
        "task_digest": federation.task.digest,
        "engine": options.engine,
        "device": options.device,
        "compiled": options.compile,
        "partition": options.partition,
        "split": options.split,
        "seeds": [outcome.seed for outcome in outcomes],
        "rounds": card.plan.rounds,
        "aggregation": _aggregation(federation, outcomes),
        "privacy": federation.private,
        "noise_source": "seeded for simulation" if federation.private else "none",
        "labels": [label.name for label in card.labels],
        "backbone": _backbone(federation),
        "tune": card.tune.model_dump() if card.tune else None,
        "prompt": {**asdict(federation.scorer.shape), "layer": card.prompt.layer, "bytes": federation.scorer.shape.nbytes},
        "sites": sites,
        **_audit_site(federation, outcomes),
        "metrics": {**_metrics(federation, scores), "per_site": per_site, **_own(federation, outcomes)},
        "references": [r.model_dump() for r in card.references] if options.published_split else [],
        "bytes": _bytes(federation, sites),
        "warnings": _warnings(federation, outcomes, per_site),
        "timing": _timing(federation, timing),
        "versions": {name: version(name) for name in VERSIONS} | {"python": platform.python_version()},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def _site(federation: Federation, name: str, outcomes: Sequence[SeedOutcome]) -> dict[str, Any]:
    """Return what one site spent, the most over all seeds: each seed is a run of its own with a ledger of its own."""
    card, mechanism = federation.task.card, federation.mechanism
    missed = [sum(name in line["left_out"] for line in outcome.lines) for outcome in outcomes]
    common = {
        "name": name,
        "n_train": federation.pools[name].patients,
        "n_test": len(federation.tests[name].labels),
        "mechanism": card.privacy.mechanism if federation.private else "none",
        "sample_rate": mechanism.draw_rate,
        "noise_multiplier": mechanism.noise_multiplier,
        "clip_norm": mechanism.clip_norm if federation.private else None,
        "unit": "patient",
        "adjacency": card.privacy.adjacency,
        "bytes_up_per_round": max(line["reply_bytes"] for outcome in outcomes for line in outcome.lines),
        "rounds_contributed": card.plan.rounds - max(missed),
    }
    if not federation.private:
        nothing = dict.fromkeys(("epsilon", "epsilon_rigorous", "delta", "accountant", "cross_checks", "mu", "attacker_accuracy"))
        return common | nothing | {"releases": releases_of(card)}
    most = max((outcome.spent[name] for outcome in outcomes), key=lambda spent: spent.epsilon)
    mu, accuracy = _attacker(mechanism.spends, most.releases, most.delta)
    return common | {
        "epsilon": most.epsilon,
        "epsilon_rigorous": most.rigorous if mechanism.exact else None,
        "delta": most.delta,
        "accountant": most.accountant,
        "cross_checks": {"PRV": most.prv, "RDP": most.rdp},
        "mu": mu,
        "attacker_accuracy": accuracy,
        "releases": most.releases,
    }


def _audit_site(federation: Federation, outcomes: Sequence[SeedOutcome]) -> dict[str, Any]:
    """Return what is said of the audit site, whose updates are in the transcript and not in the prompt; nothing without one."""
    audit = federation.task.card.audit
    if audit is None:
        return {}
    missed = max(sum(audit.site in line["left_out"] for line in outcome.lines) for outcome in outcomes)
    most = max((outcome.spent[audit.site] for outcome in outcomes), key=lambda spent: spent.epsilon)
    facts = {"name": audit.site, "commitment": audit.commitment, "unit": "canary", "epsilon": most.epsilon, "delta": most.delta}
    return {"audit_site": facts | {"releases": most.releases, "rounds_contributed": federation.task.card.plan.rounds - missed}}


def _aggregation(federation: Federation, outcomes: Sequence[SeedOutcome]) -> dict[str, Any]:
    """Return the rule, and for each site the mean share of its numbers that the rule used; null for the sum, which uses all."""
    card = federation.task.card
    shares = {name: _mean([line["kept"].get(name) for outcome in outcomes for line in outcome.lines]) for name in federation.pools}
    return {
        "rule": card.plan.aggregation,
        "tolerates": card.tolerates,
        "in_words": in_words(card, federation.private),
        "kept": None if card.plan.aggregation == "sum" else shares,
    }


@functools.cache
def _attacker(one: Release, releases: int, delta: float) -> tuple[float, float]:
    return attacker([one] * releases, delta)


def _own(federation: Federation, outcomes: Sequence[SeedOutcome]) -> dict[str, Any]:
    """Return the scores of the sites' own prompts beside the shared one's; nothing where the card wants none."""
    own, table = [outcome.own_scores for outcome in outcomes if outcome.own_scores], federation.task.card.plan.personal
    if not own or table is None:
        return {}
    better = gain(own, [outcome.scores for outcome in outcomes])
    found = {**_metrics(federation, own), "per_site": _per_site(federation, own), "gain_mean_of_sites_accuracy": better}
    return {"personal": {**table.model_dump(), **found}}


def _metrics(federation: Federation, scores: Sequence[Scores]) -> dict[str, Any]:
    tests = [test for test in federation.tests.values() if len(test.labels)]
    counts = [len(test.labels) for test in tests]
    labels = np.concatenate([test.labels for test in tests])
    mean_majority, pooled_majority = majority_baselines(federation.tests)
    pooled = float(np.mean([s.pooled_accuracy for s in scores]))
    at_sites = [
        float(np.mean([_known(s.per_site[n].accuracy) for s in scores])) for n in federation.tests if _tested(federation, n)
    ]
    areas = [s.pooled_auc for s in scores if s.pooled_auc is not None]
    return {
        "pooled_auc": _spread(areas, _auc_interval(areas, labels)) if areas else None,
        "pooled_accuracy": _spread([s.pooled_accuracy for s in scores], wilson(pooled, len(labels))),
        "mean_of_sites_accuracy": _spread([s.mean_of_sites_accuracy for s in scores], mean_interval(at_sites, counts)),
        "majority_baseline_mean_of_sites": mean_majority,
        "majority_baseline_pooled": pooled_majority,
    }


def _tested(federation: Federation, name: str) -> bool:
    return len(federation.tests[name].labels) > 0


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _auc_interval(areas: Sequence[float], labels: Any) -> tuple[float, float] | None:
    positives = int((labels == 1).sum())
    return auc_interval(float(np.mean(areas)), positives, len(labels) - positives) if labels.max() == 1 else None


def _spread(values: Sequence[float], interval: tuple[float, float] | None) -> dict[str, Any]:
    """Return mean and standard deviation over seeds; `ci95` is the uncertainty that the size of the test set leaves."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "values": list(values), "ci95": list(interval) if interval else None}


def _per_site(federation: Federation, every: Sequence[Scores]) -> dict[str, dict[str, Any]]:
    """Return each site's scores, means over seeds; null where a score does not exist."""
    found = {}
    for name in federation.tests:
        scores: list[SiteScore] = [each.per_site[name] for each in every]
        n = scores[0].n_test
        accuracy = _mean([s.accuracy for s in scores])
        found[name] = {
            "n_test": n,
            "accuracy": accuracy,
            "accuracy_ci95": None if accuracy is None else list(wilson(accuracy, n)),
            "balanced_accuracy": _mean([s.balanced_accuracy for s in scores]),
            "auc": _mean([s.auc for s in scores]),
            "majority_accuracy": scores[0].majority_accuracy,
        }
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _backbone(federation: Federation) -> dict[str, Any]:
    card, backbone = federation.task.card.backbone, federation.scorer.backbone
    return {
        "source": card.source,
        "fingerprint": card.fingerprint,
        "dtype": card.dtype,
        "parameters": weights_of(backbone.model),
        "layers": backbone.depth,
    }


def _bytes(federation: Federation, sites: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        "tensor": federation.scorer.shape.nbytes,
        "up_per_site_round": max(site["bytes_up_per_round"] for site in sites),
        "full_finetuning_per_site_round": weights_of(federation.scorer.backbone.model) * 4,
    }


def _timing(federation: Federation, timing: Timing) -> dict[str, Any]:
    """Return seconds and rates; a start that found every round done has no rates."""
    patients = sum(pool.patients for pool in federation.pools.values()) * federation.mechanism.sample_rate
    site_rounds = timing.rounds * len(federation.pools)
    rate = patients * timing.rounds * federation.task.card.plan.local_steps / timing.work_s if timing.work_s else None
    overhead = 1000 * (timing.train_s - timing.work_s) / site_rounds if site_rounds else None
    return {
        "startup_s": timing.startup_s,
        "train_s": timing.train_s,
        "total_s": timing.total_s,
        "records_per_s": rate,
        "overhead_ms_per_site_round": overhead,
    }


def _warnings(federation: Federation, outcomes: Sequence[SeedOutcome], per_site: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = []
    if not federation.private:
        found.append(
            "Privacy is off: nothing was clipped, no noise was added. Never let a prompt of real patients leave a hospital so."
        )
    else:
        found.append("Noise and draws came from the simulation's public seeds: real patients would not be protected by them.")
    for name, test in federation.tests.items():
        n, trained = len(test.labels), set(federation.pools[name].labels.tolist())
        if len(trained) == 1:
            only = federation.task.card.labels[trained.pop()].name
            found.append(f"One class only at {name}: every training patient is '{only}'.")
        if n == 0:
            found.append(f"{name} has no test patients: it has no scores of its own.")
        elif len(set(test.labels.tolist())) == 1:
            found.append(f"One class only at {name}: its test patients give no AUC and no balanced accuracy.")
        elif n < FEW:
            rarest = int(np.bincount(test.labels).min())
            found.append(f"{name} has {n} test patients, {rarest} in its rarer class: its own scores say little.")
    if federation.task.card.audit:
        found.append(
            f"{federation.task.card.audit.site} is an audit site: its canaries are in the transcript and not in the prompt."
        )
    if federation.task.card.plan.aggregation != "sum":
        found.append(in_words(federation.task.card, federation.private))
    left = {name for outcome in outcomes for line in outcome.lines for name in line["left_out"]}
    found += [f"{name} did not contribute to every round." for name in federation.pools if name in left]
    below = [n for n, s in per_site.items() if s["accuracy"] is not None and s["accuracy"] < s["majority_accuracy"]]
    found += [f"At {name} the prompt is less accurate than always saying the site's majority class." for name in below]
    return found
