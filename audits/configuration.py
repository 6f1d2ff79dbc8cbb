"""L0: what files and card say, without running anything: only the declared tensor, always as large, on the grid, noised.

Everything here looks at what the coordinator received anyway, so it may be published.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.coordinator import RunArrays, RunFiles
from audits.section import Section, Table, Verdict, section_of
from audits.statistics import LEVEL
from shared.privacy.banded import restored
from shared.privacy.mechanism import Mechanism, Update
from shared.privacy.planned import mechanism_of

TITLE = "Is it what the card declares?"
SHARED_NOISE = 0.5  # cosine of two payloads; equal noise gives nearly 1, a common signal under the card's noise far less
ENDS = (np.iinfo(np.int32).min, np.iinfo(np.int32).max)


@dataclass(frozen=True)
class _Payload:
    site: str
    round: int
    update: Update  # (P+L, D)


def audit(run: RunFiles, arrays: Mapping[str, RunArrays]) -> Section:
    """Return the section.

    Args:
        run: the coordinator's files.
        arrays: run name -> every update that it holds.
    """
    mechanism = mechanism_of(run.task.card)
    payloads = [p for one in arrays.values() for p in _payloads(one)]
    verdicts = [_tensor(payloads, run.shape, mechanism), _delta(run), _distinct(payloads)]
    if verdicts[0].holds:  # what is no such tensor cannot be measured as one
        by_run = [list(_noisy(one, mechanism.bands)) for one in arrays.values()]
        apart = [p for some in by_run for p in some]
        verdicts += [_grid(payloads, mechanism), _noised(apart, mechanism), _unshared(by_run, payloads[0].update.size)]
    return section_of(TITLE, verdicts, tables=(_terms(run, mechanism),))


def _payloads(arrays: RunArrays) -> Iterator[_Payload]:
    for site, updates in arrays.updates.items():
        for number, update in updates.items():
            yield _Payload(site, number, update)


def _noisy(arrays: RunArrays, bands: int) -> Iterator[_Payload]:
    """Give the payloads; of a banded run the sums that they were made of, whose noise is their own, where that can be known."""
    for site, updates in arrays.updates.items():
        for number, update in updates.items():
            back = range(number, max(0, number - bands), -1)
            if bands == 1:
                yield _Payload(site, number, update)
            elif all(n in updates for n in back):
                yield _Payload(site, number, restored([updates[n] for n in back], bands))


def _tensor(payloads: list[_Payload], shape: tuple[int, ...], mechanism: Mechanism) -> Verdict:
    found = {(p.update.dtype.str, p.update.shape) for p in payloads}
    wanted = {(mechanism.dtype.str, shape)}
    finite = bool(payloads) and all(np.isfinite(p.update).all() for p in payloads)
    sizes = sorted({p.update.nbytes for p in payloads})
    return Verdict(
        "L0",
        "Only the declared tensor arrived, always as large",
        f"{len(payloads)} payloads of {', '.join(f'{size:,}' for size in sizes)} bytes, all finite: {'yes' if finite else 'no'}",
        f"{mechanism.dtype} {shape}, finite",
        found == wanted and finite,
        "A tensor of the right size may still carry a message in its numbers; that is what the noise is for.",
    )


def _grid(payloads: list[_Payload], mechanism: Mechanism) -> Verdict:
    claim = "Every value is on the card's integer grid, and the grid is used in full"
    caveat = "It says nothing of how the integers came about."
    if not mechanism.exact:
        return Verdict("L0", claim, "the card's mechanism is floating point", "integers", None, caveat)
    coarse = [p for p in payloads if np.gcd.reduce(p.update.ravel().astype(np.int64)) != 1]
    ended = [p for p in payloads if p.update.min() <= ENDS[0] or p.update.max() >= ENDS[1]]
    measured = f"{len(coarse)} payloads are multiples of a whole number, {len(ended)} touch the ends of 32 bits"
    return Verdict("L0", claim, measured, "0 and 0", not coarse and not ended, caveat)


def _distinct(payloads: list[_Payload]) -> Verdict:
    different = len({p.update.tobytes() for p in payloads})
    return Verdict(
        "L0",
        "No payload was used twice",
        f"{different} different among {len(payloads)}",
        f"{len(payloads)} different",
        different == len(payloads),
        "A resend within one round is the same bytes and is kept once.",
    )


def _noised(payloads: list[_Payload], mechanism: Mechanism) -> Verdict:
    """Hold each payload's energy against the noise alone: a signal only adds to it, so too little of it is missing noise."""
    claim = "No payload has less energy than the card's noise alone"
    caveat = "A strong signal can hide missing noise; L2 measures the noise itself on made-up patients."
    if not payloads:  # of a banded run in which every site missed rounds
        return Verdict("L0", claim, "no site sent enough rounds one after the other", f"p at least {LEVEL:g}", None, caveat)
    scale = mechanism.noise_multiplier * mechanism.clip_norm / mechanism.grid
    size = payloads[0].update.size
    energies = np.array([float((p.update.astype(np.float64) ** 2).sum()) for p in payloads]) / scale**2
    least = float(energies.min())
    p_value = min(1.0, len(payloads) * float(stats.chi2.cdf(least, size)))
    return Verdict(
        "L0",
        claim,
        f"the weakest has {least / size:.3f} of it, p = {p_value:.2g}",
        f"p at least {LEVEL:g}",
        p_value >= LEVEL,
        caveat,
    )


def _unshared(by_run: list[list[_Payload]], size: int) -> Verdict:
    """Compare payloads of different sites and rounds; seeds of a simulation are runs of their own with noise of their own."""
    worst = max((_cosine(np.stack([p.update.ravel() for p in some])) for some in by_run if len(some) > 1), default=0.0)
    bound = max(SHARED_NOISE, 6 / size**0.5)  # six standard deviations of independent noise in a small tensor
    return Verdict(
        "L0",
        "No two payloads have their noise in common",
        f"largest cosine of two payloads {worst:.3f}",
        f"below {bound:.2f}",
        worst < bound,
        "A small common part would be seen by L2 only.",
    )


def _cosine(rows: NDArray[np.generic]) -> float:
    """Return the largest cosine, in size, of two different rows."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    unit = rows / np.maximum(lengths, 1.0)
    cosines = np.abs(unit @ unit.T)
    np.fill_diagonal(cosines, 0.0)
    return float(cosines.max())


def _delta(run: RunFiles) -> Verdict:
    """Hold delta against one over the patients that the card itself expects at a site; the real count is private."""
    card = run.task.card
    expected = card.plan.patients_per_round / card.privacy.sample_rate / len(card.plan.sites)
    return Verdict(
        "L0",
        "Delta is smaller than one over the patients of a site",
        f"{card.privacy.delta:g}",
        f"1 / {expected:.0f} = {1 / expected:.2g} (patients that the card's public constant expects at a site)",
        card.privacy.delta < 1 / expected,
        "How many patients a site really has is private and not looked at.",
    )


def _terms(run: RunFiles, mechanism: Mechanism) -> Table:
    card, bands = run.task.card, mechanism.bands
    rows = [
        ("unit of privacy", f"{card.privacy.unit}, at most {card.privacy.max_records} records of each"),
        ("adjacency", card.privacy.adjacency),
        ("sampling", f"Poisson, rate {mechanism.draw_rate:g}" + (f" in one turn of {bands}" if bands > 1 else "")),
        ("clip norm", f"{mechanism.clip_norm:g}"),
        ("noise", f"{card.privacy.mechanism}, multiplier {mechanism.noise_multiplier:g}"),
        ("releases of a site", f"{card.plan.rounds} rounds of {card.plan.local_steps}" + (f", {bands} bands" if bands > 1 else "")),
        ("delta", f"{card.privacy.delta:g}"),
        ("what is divided by", f"{card.plan.patients_per_round:g}, a public constant"),
        ("source of the noise", str(run.result.get("noise_source", "cryptographic, at each hospital"))),
    ]
    return Table("What the card declares.", ("", ""), rows)
