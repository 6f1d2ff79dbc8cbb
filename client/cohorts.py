"""A site's table and a card become a cohort: of sentences where the card has a template, of images where it has `[image]`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from client.images import Source, files_in, image_cohort
from client.records import Cohort, Row, cohort
from client.site import DataTable, ImagesTable
from shared.card import TaskCard
from shared.errors import InputError


def cohort_of(table: DataTable, rows: Sequence[Row], card: TaskCard, part: str = "train") -> Cohort:
    """Return the patients of one part, `train` or `test`.

    Args:
        table: the site file's `[data]` or `[images]`.
        rows: what `read_rows(table.path)` gave.
        card: its template or `[image]`, labels, and records kept of a patient.
        part: which rows.

    Raises:
        InputError: the rows do not fit the card, or the site file has `[data]` where the card reads images, or the reverse.
    """
    how, labels, most = replace(table.columns_map, part=part), [label.name for label in card.labels], card.privacy.max_records
    if isinstance(table, ImagesTable):
        return image_cohort(rows, how, pictures_of(table)(card), card.picture, labels, most)
    if card.image is not None:
        raise InputError(f"{table.path}: the card reads images; replace [data] by a table [images] with manifest and folder.")
    return cohort(rows, how, card.record_text, labels, most, str(table.path))


def pictures_of(table: ImagesTable) -> Callable[[TaskCard], Source]:
    """Return where the manifest's pictures are, for a card that says how they are read."""

    def source(card: TaskCard) -> Source:
        if card.template is not None:
            raise InputError(f"{table.path}: the card reads sentences; replace [images] by a table [data].")
        read = files_in(table.folder, table.file, card.picture, card.privacy.max_records, table.policy)
        return Source(str(table.path), table.file, read, table.skip_broken)

    return source
