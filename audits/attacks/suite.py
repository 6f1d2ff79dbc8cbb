"""All attacks on updates and prompts, as pieces of work that can go side by side."""

from collections.abc import Callable, Mapping

from audits.attacks import attribute, gallery, labels, membership, released, source
from audits.attacks.alone import alone
from audits.attacks.membership import Seen
from audits.attacks.scenes import THOROUGH, Sizes, distinct, draw, roam
from audits.section import Section
from audits.subject import Subject

PUBLIC = 5  # seed of made-up patients and of who is where, which nobody has to guess; noise has none


def parts(
    subject: Subject, cohorts: Mapping[str, Seen] | None, thorough: bool, sizes: Sizes | None = None
) -> list[Callable[[], list[Section]]]:
    """Return pieces of work that know nothing of each other, the longest first; each gives a section an attack.

    Args:
        subject: the card, its scorer, the prompts that were broadcast, and the step that is attacked.
        cohorts: site -> its updates of every prompt with its members and others, for membership on the run's own transcript.
        thorough: many more releases, patients and shadows; an hour instead of a minute.
        sizes: other sizes than these two.
    """
    chosen = sizes or (THOROUGH if thorough else Sizes())

    def runs() -> list[Section]:
        sites = roam(subject, chosen, PUBLIC + 2)
        return [membership.attack(subject, sites, cohorts, chosen, PUBLIC + 3), source.attack(subject, sites)]

    def updates() -> list[Section]:
        patients = distinct(subject, chosen.candidates, PUBLIC)
        draws = draw(subject, patients, chosen, PUBLIC)
        if subject.task.card.template is None:  # an image has no fields to guess
            return [gallery.attack(subject, draws)]
        one = alone(subject, chosen, PUBLIC + 1)
        found = labels.attack(subject, one, draws, patients.labels.numpy())
        return [gallery.attack(subject, draws), found, attribute.attack(subject, one)]

    return [runs, updates, lambda: [released.attack(subject, chosen, PUBLIC + 4)]]
