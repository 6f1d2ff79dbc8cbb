"""The canary file: made-up patients of a mystery site, each with a gradient of its own, whose coins are bound before a run.

Everything about the canaries follows from one secret of 32 bytes by HMAC-SHA256 and ChaCha20: their directions, in which
segments of the run each of them is among the site's patients (a fair coin each), and in which rounds the site draws it. The
file's SHA-256, which `sha256sum` prints, is the commitment: the task card names it, so that the coins cannot be chosen after the
updates were seen. The opening is the file itself. It holds no seed of noise.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints

from shared.card import Name, Sha256, TaskCard
from shared.errors import InputError
from shared.files import read_private, write_private
from shared.plan import SiteName
from shared.privacy.source import KeyStream
from shared.toml import Table, parse

MOST_CANARIES, MOST_SEGMENTS = 100_000, 100
HEAD = """\
# The canaries of an audit site. Keep this file secret until the run has ended: who knows it can tell canaries from patients.
# Its SHA-256 is the commitment in the task card, so do not change a byte. After the run it is the opening, and is used up.
"""


class CanaryTable(Table):
    """The file's content; see `Canaries`."""

    schema_version: Literal[1] = Field(alias="schema")
    site: SiteName
    task: Name
    rows: Annotated[int, Field(ge=1)]
    dim: Annotated[int, Field(ge=1)]
    count: Annotated[int, Field(ge=4, le=MOST_CANARIES)]
    segments: Annotated[int, Field(ge=1, le=MOST_SEGMENTS)]
    secret: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Canaries:
    """The canaries of one site in one task.

    Attributes:
        table: site, task's name, the prompt's shape (rows, dim), number of canaries and of segments, and the secret.
        commitment: SHA-256 of the file's bytes.
    """

    table: CanaryTable
    commitment: Sha256

    @property
    def count(self) -> int:
        """The number of canaries m, in the pool or not."""
        return self.table.count

    @property
    def size(self) -> int:
        """The number of coordinates of the prompt, d."""
        return self.table.rows * self.table.dim

    def stream(self, *purpose: str | int) -> KeyStream:
        """Return the stream of this purpose; whoever has the file can repeat it, and nobody else can foretell it."""
        text = "\x1f".join(map(str, purpose)).encode()
        return KeyStream(hmac.new(bytes.fromhex(self.table.secret), text, hashlib.sha256).digest())

    @cached_property
    def coins(self) -> NDArray[np.bool_]:
        """Whether each canary is among the site's patients in each segment, (segments, count): fair and independent."""
        words = self.stream("coins").words(self.table.segments * self.count)
        return (words >> np.uint64(63)).astype(bool).reshape(self.table.segments, self.count)

    @cached_property
    def coordinates(self) -> NDArray[np.int64]:
        """The coordinate of the flattened prompt in which each canary's gradient lies, (count,), all different."""
        return np.argsort(self.stream("coordinates").words(self.size), kind="stable")[: self.count]

    @cached_property
    def signs(self) -> NDArray[np.int64]:
        """In which direction, -1 or 1, (count,)."""
        return 2 * (self.stream("signs").words(self.count) >> np.uint64(63)).astype(np.int64) - 1

    def segment(self, round_: int, rounds: int) -> int:
        """Return the segment, from 0, of a round, from 1, of a plan.

        Segments are equally long, ``rounds // segments``; rounds that are left over belong to the last.
        """
        return min((round_ - 1) // max(1, rounds // self.table.segments), self.table.segments - 1)

    def inside(self, round_: int, rounds: int) -> NDArray[np.int64]:
        """Return the canaries that are among the site's patients in a round, in order."""
        return np.flatnonzero(self.coins[self.segment(round_, rounds)])


def new_canaries(card: TaskCard, site: str, shape: tuple[int, int], count: int, segments: int, path: Path) -> Canaries:
    """Make a canary file that nobody but its owner can read, with a secret from the system.

    Args:
        card: the task card, with or without its table [audit].
        site: name of the audit site on the roster.
        shape: of the prompt, (P+L, D).
        count: canaries; at most one a coordinate of the prompt.
        segments: of the run, in each of which every coin is flipped anew; at most one a round.
        path: the new file; one that is there is never overwritten.

    Raises:
        InputError: a number or name that does not fit the card.
    """
    most = min(MOST_CANARIES, shape[0] * shape[1])
    if not 4 <= count <= most:
        raise InputError(f"--count {count}: the prompt has {shape[0] * shape[1]} coordinates; give 4 to {most} canaries.")
    if not 1 <= segments <= min(MOST_SEGMENTS, card.plan.rounds):
        raise InputError(f"--segments {segments}: give 1 to {min(MOST_SEGMENTS, card.plan.rounds)} for {card.plan.rounds} rounds.")
    write_private(path, _text(card.name, site, shape, count, segments, secrets.token_hex(32)).encode())
    return read_canaries(path)


def drawn_canaries(card: TaskCard, site: str, shape: tuple[int, int], count: int, segments: int) -> Canaries:
    """Return canaries of a shadow run: as `new_canaries`, without a file."""
    return _canaries(_text(card.name, site, shape, count, segments, secrets.token_hex(32)), "the shadow run's canaries")


def read_canaries(path: Path) -> Canaries:
    """Read a canary file; raise `InputError` where it is none, or others on this machine could read it."""
    try:
        text = read_private(path).decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: this is no canary file; name one that `promptward canaries new` made.") from None
    return _canaries(text, str(path))


def require_bound(canaries: Canaries, card: TaskCard, source: str) -> None:
    """Return when the card's table [audit] names this site and commits to these canaries; raise `InputError` where not."""
    if card.audit is None:
        raise InputError(f"task card {card.name}: table [audit] is missing; add the lines that `promptward canaries show` prints.")
    if card.audit.commitment != canaries.commitment:
        raise InputError(
            f"{source}: its SHA-256 {canaries.commitment[:12]}… is not the card's [audit] commitment "
            f"{card.audit.commitment[:12]}…; name the file that was made for this card, unchanged."
        )
    if (card.audit.site, card.name) != (canaries.table.site, canaries.table.task):
        raise InputError(
            f"{source}: it was made for site '{canaries.table.site}' of task {canaries.table.task}, and the card is {card.name} "
            f"with audit site '{card.audit.site}'; make a file for this card with `promptward canaries new`."
        )


def card_lines(canaries: Canaries) -> str:
    """Return what goes into the task card."""
    return f'[audit]\nsite = "{canaries.table.site}"\ncommitment = "{canaries.commitment}"\n'


def _text(task: str, site: str, shape: tuple[int, int], count: int, segments: int, secret: str) -> str:
    import tomli_w  # noqa: PLC0415

    facts = {"schema": 1, "site": site, "task": task, "rows": shape[0], "dim": shape[1], "count": count, "segments": segments}
    return HEAD + tomli_w.dumps(facts | {"secret": secret})


def _canaries(text: str, source: str) -> Canaries:
    table = parse(CanaryTable, text, source)
    if table.count > table.rows * table.dim:
        raise InputError(f"{source}: key 'count': {table.count} canaries do not fit into {table.rows} x {table.dim} coordinates.")
    return Canaries(table, hashlib.sha256(text.encode()).hexdigest())
