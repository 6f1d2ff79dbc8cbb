"""From prompts that were named to readers that can be asked: with a site's column mapping and its temperatures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.calibration import calibrate, temperature_of
from client.prediction import Question
from client.site import ImagesTable, SiteFile, load_site
from shared.errors import InputError
from shared.library import default_library, find
from shared.reading import Reader, open_reader, require_one_model


def questions_of(prompts: Sequence[str], site: Path | None, library: Path | None, fit: bool = False) -> list[Question]:
    """Open prompts for reading.

    Args:
        prompts: folders, or names in the library.
        site: a site file, or None.
        library: default: see `shared.library.default_library`.
        fit: first calibrate each prompt on the site's test patients.

    Raises `InputError` for a prompt that is not there or not whole, for prompts of different models, and for a site file of
    the other kind of record.
    """
    readers = [open_reader(find(prompt, library or default_library())) for prompt in prompts]
    require_one_model(readers)
    readers = _named_apart(readers)
    where = None if site is None else load_site(site)
    bare = [Question(reader, {}) for reader in readers]
    require_one_kind(bare, where)
    if where is None:
        return bare
    if fit:
        for reader in readers:
            calibrate(where, reader)
    return [_at_site(reader, where) for reader in readers]


def require_one_kind(questions: Sequence[Question], site: SiteFile | None) -> None:
    """Raise `InputError` where a prompt's pictures do not fit its model, or the site file is of the other kind of record."""
    for question in questions:
        card, name = question.reader.task.card, question.reader.name
        if site is not None and question.sees != isinstance(site.data, ImagesTable):
            table, reads = ("[images]", "images") if question.sees else ("[data]", "sentences")
            raise InputError(f"site '{site.site}': prompt '{name}' reads {reads}, so its site file needs {table}; name that one.")
        if question.sees:
            blank = np.zeros((1, card.picture.channels, card.picture.size, card.picture.size), dtype=np.float32)
            try:
                question.reader.scorer.read(blank)
            except InputError as error:
                raise InputError(f"prompt '{name}': {error}") from None


def _at_site(reader: Reader, site: SiteFile) -> Question:
    fields = [] if reader.task.card.image is not None else reader.task.card.record_text.names
    columns = {field: column for field, column in site.data.columns.items() if field in fields}
    return Question(reader, columns, temperature_of(site, reader) or 1.0)


def _named_apart(readers: Sequence[Reader]) -> list[Reader]:
    """Name prompts by their folder, or where it is called `prompt` by their task; with a number where that is not enough."""
    bare = [reader.task.card.name if reader.name == "prompt" else reader.name for reader in readers]
    return [
        replace(reader, name=name if bare.count(name) == 1 else f"{name}-{bare[: n + 1].count(name)}")
        for n, (reader, name) in enumerate(zip(readers, bare, strict=True))
    ]
