"""What the coordinator hands to a hospital: the authority's certificate, the card, a site file to complete, the next steps."""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

import jinja2
import tomli_w

from shared.card import Task, TaskCard
from shared.keys import key_file_name
from shared.privacy.planned import epsilon_of_plan
from shared.template import FieldTable

HERE = Path(__file__).parent
MOST_WORDS = 12  # values of a field that the site file's comments list


@dataclass(frozen=True)
class Invitation:
    """What all sites of a federation get alike.

    Attributes:
        task: the card with its exact text.
        address: HOST:PORT of the coordinator.
        authority: the CA's certificate, PEM.
        epsilon: suggested for the site's budget; see `suggested_epsilon`.
    """

    task: Task
    address: str
    authority: bytes
    epsilon: float


def suggested_epsilon(task: Task) -> float:
    """Return what the whole plan spends at a site at the card's delta, rounded up by a thousandth and to two decimals.

    Without that little more, a site that computes the same sum could find itself above the limit in its last digit.
    """
    return math.ceil(epsilon_of_plan(task.card) * 100.1) / 100


def files_for(invitation: Invitation, site: str) -> dict[str, bytes]:
    """Return the files for one site of the roster by their names. The card's text is exact: its SHA-256 is the digest."""
    return {
        "ca.crt": invitation.authority,
        "task.toml": invitation.task.text.encode(),
        "site.toml": _rendered("site.toml.j2", _facts(invitation, site)),
    }


def next_steps(invitation: Invitation, site: str) -> bytes:
    """Return the README that tells a hospital what to do with the files."""
    return _rendered("invitation.txt.j2", _facts(invitation, site))


def _facts(invitation: Invitation, site: str) -> dict[str, object]:
    card, stem = invitation.task.card, key_file_name(site)
    return {
        "site": site,
        "card": card,
        "digest": invitation.task.digest,
        "address": invitation.address,
        "epsilon": invitation.epsilon,
        "stem": stem,
        "shell_name": ("-- " if site.startswith("-") else "") + shlex.quote(site),
        "fields": _fields(card),
    }


def _fields(card: TaskCard) -> list[tuple[str, str]]:
    """Return each field of the template with a hint; none where records are images."""
    if card.template is None:
        return []
    return [(name, _hint(card.template.fields.get(name, FieldTable()))) for name in card.record_text.names]


def _hint(field: FieldTable) -> str:
    """Say in a comment what a field's cells may hold."""
    if field.edges is not None:
        return "a number; the sentence changes at " + ", ".join(f"{edge:g}" for edge in field.edges)
    if isinstance(field.words, dict):
        words = [_toml(word) for word in field.words]
        return "one of " + ", ".join(words[:MOST_WORDS]) + (", ..." if len(words) > MOST_WORDS else "")
    return "text, used as it is"


def _rendered(template: str, facts: dict[str, object]) -> bytes:
    # Text for people and TOML, not HTML: there is nothing to escape but TOML's strings, which the filter does.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"toml": _toml, "key": _key, "line": _line}
    return environment.get_template(template).render(facts).encode()


def _toml(value: object) -> str:
    """Return a value as TOML writes it, on one line."""
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _key(name: str) -> str:
    """Return a key as TOML writes it, quoted where it has to be."""
    return tomli_w.dumps({name: 0}).removesuffix(" = 0\n")


def _line(text: str) -> str:
    """Return a text that cannot end the comment it stands in."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
