"""From prompts that were named to readers that can be asked: with a site's column mapping and its temperatures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from client.calibration import calibrate, temperature_of
from client.prediction import Question
from client.site import SiteFile, load_site
from shared.library import default_library, find
from shared.reading import Reader, open_reader, require_one_model


def questions_of(prompts: Sequence[str], site: Path | None, library: Path | None, fit: bool = False) -> list[Question]:
    """Open prompts for reading.

    Args:
        prompts: folders, or names in the library.
        site: a site file, or None.
        library: default: see `shared.library.default_library`.
        fit: first calibrate each prompt on the site's test patients.

    Raises `InputError` for a prompt that is not there or not whole, and for prompts of different models.
    """
    readers = [open_reader(find(prompt, library or default_library())) for prompt in prompts]
    require_one_model(readers)
    readers = _named_apart(readers)
    if site is None:
        return [Question(reader, {}) for reader in readers]
    where = load_site(site)
    if fit:
        for reader in readers:
            calibrate(where, reader)
    return [_at_site(reader, where) for reader in readers]


def _at_site(reader: Reader, site: SiteFile) -> Question:
    columns = {field: column for field, column in site.data.columns.items() if field in reader.task.card.record_text.names}
    return Question(reader, columns, temperature_of(site, reader) or 1.0)


def _named_apart(readers: Sequence[Reader]) -> list[Reader]:
    """Name prompts by their folder, or where it is called `prompt` by their task; with a number where that is not enough."""
    bare = [reader.task.card.name if reader.name == "prompt" else reader.name for reader in readers]
    return [
        replace(reader, name=name if bare.count(name) == 1 else f"{name}-{bare[: n + 1].count(name)}")
        for n, (reader, name) in enumerate(zip(readers, bare, strict=True))
    ]
