"""`promptward simulate`: from the command line (see `simulations.arguments`) to a finished run directory."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from server.strategy import RoundSeen
from shared.canaries import read_canaries
from shared.card import Task
from shared.compiled import compiled
from shared.device import enough_memory
from shared.errors import InputError, RunError
from shared.peft_format import save_prompt
from shared.privacy.accounting import Spent, epsilon_of
from shared.prompt import Array
from simulations import batched, ray_engine
from simulations.evaluate import Pooled, Scores, score, score_own, score_pooled
from simulations.federation import Federation, Stopwatch, prepare, run_seed
from simulations.options import FILE, Changes, Options, usual_partition, varied
from simulations.partition import Scheme
from simulations.personal import own_prompts, save_own_prompts
from simulations.pools import each, elsewhere, together
from simulations.progress import Display
from simulations.report import write_report
from simulations.result import SeedOutcome, Timing, assemble
from simulations.study import deal_out
from simulations.synthetic import PREFIX
from simulations.table import closing_table

LINES = "metrics.jsonl"
HOLD = {"in-process": each, "batched": together, "ray": elsewhere}
Train = Callable[[Federation, int, Path, Stopwatch, Callable[[RoundSeen], None]], tuple[Array, dict[str, Spent]]]


def run(args: argparse.Namespace, started: float) -> int:
    """Run the command; `started` is the process's start on `time.perf_counter`'s clock."""
    console = Console(stderr=True)
    task, options, changes, out = _resumed(args) if args.resume else _asked(args)
    _require_writable(out)
    if options.engine == "ray":
        ray_engine.require_ray()
    elif args.ray_address:
        raise InputError("--ray-address is for --engine ray; add that, or leave the address away.")
    study = options.study(task)
    task = varied(task, changes, options, study)
    console.print(f"Task {task.card.name}, digest {task.digest}", highlight=False)
    sites = deal_out(study, task.card, Scheme.parse(options.partition), task.card.hospitals, options.split)
    canaries = read_canaries(Path(options.canaries)) if options.canaries else None
    hold, device = HOLD[options.engine], options.device
    federation = prepare(task, sites, options.private, canaries, options.schedule, hold, device=device)
    if options.compile:
        federation = replace(federation, scorer=compiled(federation.scorer))
    with _kept(out), enough_memory(device):
        result, _ = simulate(federation, options, out, console, started, args.ray_address)
    if args.json:
        print(json.dumps(result, indent=2))  # noqa: T201 (the result, on standard output)
    else:
        Console().print(closing_table(result))
    console.print(f"Report: {out / 'report.html'}", highlight=False, soft_wrap=True)
    return 0


def _asked(args: argparse.Namespace) -> tuple[Task, Options, Changes, Path]:
    changes = Changes(args.sites, args.epsilon, args.rounds, args.aggregation, args.tolerate, args.quorum, args.precision)
    task = Task.load(args.task)
    made_up = args.data is not None and args.data.startswith(PREFIX)
    partition = args.partition or usual_partition(task, args.sites, args.data)
    data = str(Path(args.data).resolve()) if args.data and not made_up else args.data
    if args.no_privacy and args.epsilon is not None:
        raise InputError("--no-privacy and --epsilon contradict each other; give one of them.")
    canaries = str(args.canaries.resolve()) if args.canaries else None
    missing = (args.dropout, args.stragglers, args.late_joiners)
    where = (args.engine, *missing, args.actors, args.curve, args.device, args.compile)
    options = Options(partition, args.seeds, args.split, not args.no_privacy, data, canaries, *where)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    out = args.out or Path("runs") / f"{task.card.name}-{stamp}"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        mend = f"go on with it by --resume {out}, or name" if (out / FILE).exists() else "name"
        raise InputError(f"{out}: this exists and is not an empty folder; {mend} another with --out.")
    return task, options, changes, out


def _resumed(args: argparse.Namespace) -> tuple[Task, Options, Changes, Path]:
    options = Options.load(args.resume)
    return Task.load(str(args.resume / "task.toml")), options, Changes(), args.resume


def _require_writable(out: Path) -> None:
    """Try the nearest folder that is there, and leave nothing behind."""
    nearest = next(folder for folder in [out, *out.resolve().parents] if folder.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); name another folder with --out.") from None


@contextmanager
def _kept(out: Path) -> Iterator[None]:
    """Turn a full disk and Ctrl-C into one sentence; what is done so far is kept."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{out}: writing failed ({error}); make room, then go on with --resume {out}.") from None
    except KeyboardInterrupt:
        raise RunError(f"Stopped; go on with: promptward simulate --resume {out}") from None


@contextmanager
def _engine(options: Options, out: Path, cluster: str | None) -> Iterator[Train]:
    """Give what trains a seed; Ray's actors live as long as this."""
    if options.engine == "ray":
        with ray_engine.actors(out, options.actors, cluster) as pool:
            yield partial(ray_engine.run_seed, pool)
    else:
        yield batched.run_seed if options.engine == "batched" else run_seed


def simulate(
    federation: Federation, options: Options, out: Path, console: Console, started: float, cluster: str | None = None
) -> tuple[dict[str, Any], list[SeedOutcome]]:
    """Fill a run directory, or go on with one that was interrupted.

    Args:
        federation: see `federation.prepare`.
        options: the choices that it was prepared for.
        out: the run directory; its finished rounds are kept.
        console: what a person watches.
        started: when the work for this run began, on `time.perf_counter`'s clock.
        cluster: HOST:PORT of a Ray cluster; None starts one here where the engine is Ray.

    Returns:
        `result.json`'s content, and each seed's outcome.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "task.toml").write_text(federation.task.text, encoding="utf-8")
    options.save(out)
    rounds = federation.task.card.plan.rounds
    lines = _kept_lines(out)
    outcomes, watch = [], Stopwatch()
    with _engine(options, out, cluster) as train:
        before = time.perf_counter()
        with Display(console, rounds * options.seeds, federation.private) as display:
            display.begin(len(lines))
            for seed in range(options.seeds):
                outcomes.append(
                    _seed(federation, train, out, seed, lines, watch, Curve(federation, seed, out / LINES, display, options.curve))
                )
        trained = time.perf_counter()
    timing = Timing(before - started, trained - before, trained - started, watch.seconds, rounds * options.seeds - len(lines))
    result = assemble(federation, options, outcomes, timing)
    _save_prompt(federation, outcomes[0], result, out)
    result["timing"]["total_s"] = time.perf_counter() - started
    result["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    curve_lines = [dict(line) for outcome in outcomes for line in outcome.lines]
    write_report(result, curve_lines, out / "report.html")
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result, outcomes


def _seed(
    federation: Federation,
    train: Train,
    out: Path,
    seed: int,
    lines: Sequence[dict[str, Any]],
    watch: Stopwatch,
    curve: "Curve",
) -> SeedOutcome:
    before = time.perf_counter()
    prompt, spent = train(federation, seed, out, watch, curve.observe)
    seconds = time.perf_counter() - before
    earlier = [line for line in lines if line["seed"] == seed]
    scores = curve.final or score(prompt, federation.tests, federation.scorer)
    own = own_prompts(federation, seed, out, prompt)
    own_scores = score_own(own, federation.tests, federation.scorer) if own else None
    return SeedOutcome(seed, prompt, scores, spent, earlier + curve.lines, own, own_scores, None if earlier else seconds)


class Curve:
    """Writes one line of metrics.jsonl a round; every few rounds the prompt is scored on the test patients."""

    def __init__(self, federation: Federation, seed: int, path: Path, display: Display, points: int) -> None:
        """Start with no line; about `points` rounds will be scored."""
        self._federation, self._seed, self._path, self._display = federation, seed, path, display
        self._every = max(1, federation.task.card.plan.rounds // points)
        self.lines: list[dict[str, Any]] = []
        self.final: Scores | None = None  # of the last round's prompt, once it was seen

    def observe(self, seen: RoundSeen) -> None:
        """Write and show the line of one round."""
        line = self._line(seen, self._scores(seen))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.lines.append(line)
        self._display.show(line)

    def _scores(self, seen: RoundSeen) -> Pooled | None:
        federation, number = self._federation, seen.state.round
        if number == federation.task.card.plan.rounds:
            self.final = score(seen.state.published, federation.tests, federation.scorer)
            return self.final
        if number % self._every:
            return None
        return score_pooled(seen.state.published, federation.tests, federation.scorer)

    def _line(self, seen: RoundSeen, scores: Pooled | None) -> dict[str, Any]:
        federation = self._federation
        return {
            "seed": self._seed,
            "round": seen.state.round,
            "pooled_auc": scores and scores.pooled_auc,
            "pooled_accuracy": scores and scores.pooled_accuracy,
            "mean_of_sites_accuracy": scores and scores.mean_of_sites_accuracy,
            "epsilon_max": self._epsilon(seen.state.round) if scores and federation.private else None,
            "sites": len(seen.updates.keys() & set(federation.task.card.hospitals)),
            "left_out": dict(seen.left_out),
            "kept": dict(seen.kept),
            "reply_bytes": max(seen.reply_bytes.values()),
        }

    def _epsilon(self, rounds: int) -> float:
        """Return what a site has spent that took part in every round so far."""
        one, card = self._federation.mechanism.spends, self._federation.task.card
        sums = rounds * card.plan.local_steps
        return epsilon_of([one] * self._federation.mechanism.releases(sums), card.privacy.delta)


def _kept_lines(out: Path) -> list[dict[str, Any]]:
    """Return the lines of rounds that have a checkpoint, and drop the others from the file: their rounds run again."""
    path = out / LINES
    if not path.exists():
        return []
    lines = [json.loads(raw) for raw in path.read_text(encoding="utf-8").splitlines() if raw.endswith("}")]
    kept = {(x["seed"], x["round"]): x for x in lines if _checkpoint(out, x["seed"], x["round"]).exists()}
    path.write_text("".join(json.dumps(line) + "\n" for line in kept.values()), encoding="utf-8")
    return list(kept.values())


def _checkpoint(out: Path, seed: int, round_: int) -> Path:
    return out / "checkpoints" / f"seed{seed}" / f"round-{round_:05d}.npz"


def _save_prompt(federation: Federation, outcome: SeedOutcome, result: dict[str, Any], out: Path) -> None:
    """Write the first seed's prompt, and the sites' own; the others' are in their last checkpoints and in `ledgers/`."""
    facts = {
        "privacy": federation.private,
        "seed": outcome.seed,
        "sites": [{key: site[key] for key in ("name", "epsilon", "delta", "accountant", "unit")} for site in result["sites"]],
    }
    save_prompt(out / "prompt", outcome.prompt, federation.task, federation.scorer, facts)
    save_own_prompts(federation, outcome.own, facts, out)
