"""All attacks on updates and prompts, in one call."""

from collections.abc import Iterator, Mapping

from audits.attacks import attribute, gallery, labels, membership, released, source
from audits.attacks.alone import alone
from audits.attacks.membership import Seen
from audits.attacks.scenes import THOROUGH, Sizes, distinct, draw, roam
from audits.section import Section
from audits.subject import Subject

PUBLIC = 5  # seed of made-up patients and of who is where, which nobody has to guess; noise has none


def run(subject: Subject, cohorts: Mapping[str, Seen] | None, thorough: bool, sizes: Sizes | None = None) -> Iterator[Section]:
    """Give a section an attack.

    Args:
        subject: the card, its scorer, the prompts that were broadcast, and the step that is attacked.
        cohorts: site -> its updates of every prompt with its members and others, for membership on the run's own transcript.
        thorough: many more releases, patients and shadows; minutes instead of one.
        sizes: other sizes than these two.
    """
    sizes = sizes or (THOROUGH if thorough else Sizes())
    patients = distinct(subject, sizes.candidates, PUBLIC)
    draws = draw(subject, patients, sizes, PUBLIC)
    yield gallery.attack(subject, draws)
    one = alone(subject, sizes, PUBLIC + 1)
    yield labels.attack(subject, one, draws, patients.labels.numpy())
    yield attribute.attack(subject, one)
    sites = roam(subject, sizes, PUBLIC + 2)
    yield source.attack(subject, sites)
    yield membership.attack(subject, sites, cohorts, sizes, PUBLIC + 3)
    yield released.attack(subject, sizes, PUBLIC + 4)
