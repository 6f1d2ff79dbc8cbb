"""The bugs that `promptward audit --self-test` puts in, one by one, to see which layer finds each. Never for patients.

Numbers and severities are those of docs/pitfalls.md (privacy.md §6): A breaks the guarantee silently, B weakens it.
`make mutations` puts bugs into the source to test the tests; here they are put into what the audits look at, to test the audits.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from audits import bugs_draw, bugs_site, bugs_step
from audits.bugs_site import OpenSite, site_with, terms
from audits.subject import Step, Subject


@dataclass(frozen=True)
class Bug:
    """One bug.

    Attributes:
        pitfall: its number in docs/pitfalls.md.
        severity: A or B.
        what: in a sentence.
        step: makes the private step with the bug, new for every subject, because some remember; None: the step is right.
        site: opens a hospital with the bug; None: the hospital is right.
    """

    pitfall: int
    severity: str
    what: str
    step: Callable[[], Step] | None = None
    site: OpenSite | None = None

    def put(self, subject: Subject) -> Subject:
        """Return the subject with this bug."""
        return replace(subject, step=self.step() if self.step else subject.step, open_site=self.site or subject.open_site)


STEP_BUGS = (
    Bug(1, "A", "all noise comes from one public seed", lambda: bugs_step.seeded(3)),
    Bug(1, "A", "a site's seed is the same in every round", lambda: bugs_step.seeded(1, 3)),
    Bug(1, "A", "a round's seed is the same at all sites", lambda: bugs_step.seeded(2, 3)),
    Bug(2, "A", "the local steps of a round share their noise", bugs_step.same_in_all_steps),
    Bug(3, "A", "the noise is halved", lambda: bugs_step.scaled(0.5)),
    Bug(3, "A", "the noise is three quarters of what is stated", lambda: bugs_step.scaled(0.75)),
    Bug(3, "A", "the noise has the scale of a mean over twenty", lambda: bugs_step.scaled(0.05)),
    Bug(3, "A", "one label's row gets no noise", bugs_step.bare_row),
    Bug(3, "A", "the noise is uniform, of the right variance", bugs_step.flat),
    Bug(4, "B", "the noise comes from numpy's generator", bugs_step.own_generator),
    Bug(5, "B", "the noise is drawn in bfloat16", bugs_step.coarse),
    Bug(7, "A", "shuffling: a draw of fixed size in a secret order", bugs_draw.shuffled),
    Bug(7, "A", "batches of the table in a known order", bugs_draw.in_order),
    Bug(7, "A", "sampling with replacement", bugs_draw.with_replacement),
    Bug(7, "A", "a quarter more are drawn than the rate says", lambda: bugs_draw.at_rate(lambda _pool, rate: 1.25 * rate)),
    Bug(
        8,
        "A",
        "the rate follows from the number of patients",
        lambda: bugs_draw.at_rate(lambda pool, _rate: 10 / max(1, pool.patients)),
    ),
    Bug(8, "A", "the update is divided by the number drawn", lambda: bugs_draw.divided(lambda _pool, drawn: drawn)),
    Bug(8, "A", "the update is divided by the number of patients", lambda: bugs_draw.divided(lambda pool, _drawn: pool.patients)),
    Bug(9, "A", "an empty draw releases nothing", bugs_draw.skips_nobody),
    Bug(9, "A", "a batch is capped", bugs_draw.capped),
    Bug(10, "A", "one label's patients are drawn more often", bugs_draw.weighted),
    Bug(11, "A", "every round draws the same patients, from a public seed", bugs_draw.public_draw),
    Bug(12, "A", "the loss is a mean over the batch", lambda: bugs_step.changed(lambda each: each / len(each))),
    Bug(12, "A", "gradients are centred on their batch", lambda: bugs_step.changed(lambda each: each - each.nan_to_num().mean(0))),
    Bug(13, "A", "a gradient that is no number enters the sum", bugs_step.keep_not_finite),
    Bug(14, "A", "nothing is clipped", lambda: bugs_step.clip_of(None)),
    Bug(14, "A", "the sum is clipped instead of every patient", bugs_step.clip_the_sum),
    Bug(14, "A", "every row of the prompt is clipped by itself and charged once", lambda: bugs_step.clip_of((2,))),
    Bug(15, "A", "every record is clipped as a patient of its own", bugs_step.by_record),
    Bug(17, "A", "momentum of the clean sums enters what is released", bugs_step.momentum),
    Bug(17, "A", "the local move follows the gradients without noise", bugs_step.raw_move),
    Bug(18, "A", "every draw's size is printed", bugs_step.tells),
    Bug(20, "A", "the clip norm follows the patients' gradients", bugs_draw.tuned),
    Bug(23, "B", "the update has a row for every drawn patient", bugs_draw.longer),
    Bug(24, "A", "a patient whose gradient is no number raises an error", bugs_step.raises),
)

SITE_BUGS = (
    Bug(2, "A", "a resend is made anew", site=site_with(bugs_site.anew)),
    Bug(18, "A", "a count of patients leaves beside the update", site=site_with(bugs_site.with_metrics)),
    Bug(18, "A", "the number of patients is logged", site=site_with(bugs_site.logs_counts)),
    Bug(22, "A", "the update is multiplied with the number of patients", site=site_with(bugs_site.weighted)),
    Bug(25, "A", "a restart resets the ledger", site=bugs_site.forgetful),
    Bug(25, "A", "what leaves is not logged", site=site_with(bugs_site.unlogged)),
    Bug(26, "A", "nothing is charged", site=site_with(bugs_site.charging(bugs_site.no_charge))),
    Bug(26, "A", "every other round is not charged", site=site_with(bugs_site.charging(bugs_site.every_other))),
    Bug(26, "A", "a round is charged after it left", site=site_with(bugs_site.charge_late)),
    Bug(27, "A", "a round of several local steps is charged as one release", site=site_with(terms(releases=lambda _n: 1))),
    Bug(28, "A", "the ledger states twice the noise", site=site_with(terms(noise_multiplier=lambda sigma: 2 * sigma))),
    Bug(28, "A", "the ledger states half the rate", site=site_with(terms(sample_rate=lambda rate: rate / 2))),
    Bug(28, "A", "the ledger names another payload", site=site_with(terms(payload=lambda name: name[::-1]))),
    Bug(32, "A", "a round is answered again for another prompt", site=site_with(bugs_site.any_prompt)),
)

BUGS = STEP_BUGS + SITE_BUGS
