"""`promptward compare`: from the command line (see `arguments`) to a folder with the numbers, a page and a recommendation."""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from shared.card import Task
from shared.errors import InputError, RunError
from simulations.comparison.figures import HeldOut
from simulations.comparison.logistic import reference
from simulations.comparison.method import Method
from simulations.comparison.methods import METHODS, PROMPT, Known, chosen
from simulations.comparison.outcome import Row, assemble, contrasts, row_of, write_csv
from simulations.comparison.page import closing_table, write_page
from simulations.comparison.planning import plan_of, rounds_for_bytes, rounds_for_seconds, seconds_a_round
from simulations.comparison.runs import SETTINGS, Run, Setting, Shelf, trained
from simulations.comparison.split import Split, read_split
from simulations.comparison.training import Plan
from simulations.comparison.verdict import recommend
from simulations.options import Changes, Options, varied
from simulations.partition import Scheme
from simulations.synthetic import PREFIX

FILE, PACE = "compare.json", "seconds-a-round.json"


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    methods: Mapping[str, Known]
    settings: tuple[Setting, ...]
    options: Options
    equal: str
    margin: float
    out: Path


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    console = Console(stderr=True)
    asked = _asked(args)
    task = Task.load(args.task)
    study = asked.options.study(task)
    task = varied(task, Changes(sites=args.sites, epsilon=args.epsilon), asked.options, study)
    split = read_split(task, study, Scheme.parse(asked.options.partition), asked.options.split)
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
        result = _compare(split, asked, console)
    except OSError as error:
        raise RunError(f"{asked.out}: writing failed ({error}); make room and give the same command again.") from None
    except KeyboardInterrupt:
        raise RunError(f"Stopped; the same command with --out {asked.out} goes on.") from None
    if args.json:
        print(json.dumps(result, indent=2))  # noqa: T201 (the result, on standard output)
    else:
        Console().print(closing_table(result))
    console.print(f"Report: {asked.out / 'report.html'}", highlight=False, soft_wrap=True)
    return 0


def _asked(args: argparse.Namespace) -> Asked:
    settings = tuple(setting for setting in SETTINGS if setting in args.settings.split(","))
    if len(settings) < len(args.settings.split(",")):
        raise InputError(f"--settings {args.settings}: write some of {', '.join(SETTINGS)}, with commas between.")
    if not 0 < args.margin < 0.5:
        raise InputError(f"--margin {args.margin:g}: give a difference in AUC above 0 and below 0.5.")
    names = list(METHODS) if args.methods == "all" else [PROMPT, *args.methods.split(",")]
    made_up = args.data is not None and args.data.startswith(PREFIX)
    partition = args.partition or ("iid" if made_up or (args.sites and not args.data) else "natural")
    options = Options(partition, args.seeds, args.split, data=args.data)
    out = args.out or Path("runs") / f"compare-{Path(args.task).stem}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}"
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / "runs").is_dir())):
        raise InputError(f"{out}: this exists and is no comparison's folder; name another with --out.")
    return Asked(chosen(names, args.set), settings, options, args.equal, args.margin, out)


def _compare(split: Split, asked: Asked, console: Console) -> dict[str, Any]:
    if split.task.card.privacy.bands > 1:
        raise InputError("compare: every method's rounds have noise of their own here; remove [privacy] bands from the card.")
    facts = {
        "digest": split.task.digest,
        "partition": asked.options.partition,
        "split": asked.options.split,
        "patients": split.digest,
    }
    shelf, rows, left_out, prompt = Shelf(asked.out / "runs", facts), [], [], None
    for name, known in asked.methods.items():
        method = known.build(split)
        prompt = prompt or method  # the first is always the card's prompt
        rounds = _rounds(split, asked, name, known, (prompt, method))
        if rounds == 0:
            left_out.append(f"{known.title}: a single round takes more than the card's prompt in all its rounds.")
            continue
        tuning = replace(known.tuning, rounds=rounds)
        shares = {"local": 1 / len(split.sites), "federated": 1.0, "pooled": 1.0}
        plans: dict[Setting, Plan] = {
            setting: plan_of(split.task.card, tuning, method.start.size, shares[setting]) for setting in asked.settings
        }
        for setting in asked.settings:
            seeds = range(min(asked.options.seeds, tuning.seeds or asked.options.seeds))
            runs = [_one(shelf, name, method, split, setting, plans, seed, console) for seed in seeds]
            rows.append(row_of(name, known, setting, method, plans[setting], runs))
    return _closed(split, asked, rows + _references(split, asked, prompt), left_out)


def _rounds(split: Split, asked: Asked, name: str, known: Known, pair: tuple[Method, Method]) -> int:
    """Return how many rounds a method trains."""
    prompt, method = pair
    own = known.tuning.filled(split.task.card).rounds
    ours = asked.methods[PROMPT].tuning.filled(split.task.card).rounds
    if asked.equal == "epsilon" or name == PROMPT:
        return own
    if asked.equal == "bytes":
        return rounds_for_bytes(ours, prompt.nbytes, method.nbytes)
    pace = {PROMPT: _pace(split, asked, PROMPT, prompt), name: _pace(split, asked, name, method)}
    return rounds_for_seconds(ours, pace[PROMPT], pace[name])


def _pace(split: Split, asked: Asked, name: str, method: Method) -> float:
    """Return a method's seconds a round, measured once for a folder, so that a comparison that goes on has the same plans."""
    path = asked.out / PACE
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    if name not in known:
        plan = plan_of(split.task.card, asked.methods[name].tuning, method.start.size)
        known[name] = seconds_a_round(method, split, plan.mechanism)
        path.write_text(json.dumps(known, indent=2) + "\n")
    return known[name]


def _one(
    shelf: Shelf,
    name: str,
    method: Method,
    split: Split,
    setting: Setting,
    plans: Mapping[Setting, Plan],
    seed: int,
    console: Console,
) -> Run:
    found = shelf.find(name, setting, seed, plans[setting])
    if found is None:
        found = trained(method, split, setting, plans, seed)
        shelf.keep(name, setting, seed, plans[setting], found)
        console.print(f"{name}, {setting}, seed {seed}: {found.seconds:.0f} s", highlight=False)
    return found


def _references(split: Split, asked: Asked, prompt: Method | None) -> list[Row]:
    """Return what needs no training with privacy: the untrained prompt, and logistic regression on the raw table."""
    import torch  # noqa: PLC0415 (seconds to import)

    assert prompt  # noqa: S101 (for the type checker)
    everybody = (np.arange(len(split.labels)), np.arange(len(split.test_labels)))
    apart = [(split.records_of(site), np.flatnonzero(split.test_site == site)) for site in range(len(split.sites))]
    untrained = Run(prompt.probabilities(torch.from_numpy(prompt.start)), 0.0)
    found = [Row("untrained", "the card's prompt, untrained", "federated", 0, None, [untrained])]
    for setting, parts in (("local", apart), ("pooled", [everybody])):
        if setting in asked.settings:
            kept = Run(reference(split, parts), 0.0)
            found.append(Row("table", "logistic regression on the raw table, no privacy", setting, 0, None, [kept]))
    return found


def _closed(split: Split, asked: Asked, rows: Sequence[Row], left_out: Sequence[str]) -> dict[str, Any]:
    tested = HeldOut.of(split.test_labels, split.test_site)
    found = recommend(contrasts(rows, tested), asked.margin, len(split.sites))
    facts = {
        "equal": asked.equal,
        "margin": asked.margin,
        "partition": asked.options.partition,
        "split": asked.options.split,
        "sites": list(split.sites),
        "recommendation": asdict(found),
        "left_out": list(left_out),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    result = assemble(rows, tested, split.task, facts)
    assert math.isfinite(result["rows"][0]["metrics"]["pooled_auc"]["mean"])  # noqa: S101 (never a table of NaN)
    (asked.out / FILE).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_csv(rows, tested, split.task, asked.out / "compare.csv")
    write_page(result, asked.out / "report.html")
    return result
