"""All sites' patients in one pool, and what each site would send of it: one pass for all instead of one a site.

Rows of a batch never meet in the model, so that the gradient of each record's own prompt rows is that record's gradient, whoever
else is in the batch. Clipping, sums by site and each site's noise follow, with the coins and the noise of `client.round`.

Letters in shape comments: S sites, N drawn patients, R their records, P prompt rows, L label rows, D hidden size, K = (P+L) D.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.round import LocalPlan, Pool, drawn_in_turn, owners, patient_means
from shared.backbone import Hidden
from shared.privacy.banded import Carry
from shared.privacy.clip import STEPS, clipped_rows
from shared.privacy.guarantee import ClippedSum, NoisedSum
from shared.privacy.mechanism import Mechanism, Update, encode, parts_of, release, release_in_turn
from shared.privacy.noise import add_noise
from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import SimulationSource, Stream
from shared.prompt import Array
from shared.scoring import Scorer


@dataclass(frozen=True)
class Stack:
    """All sites' patients in one pool, site after site.

    Attributes:
        pool: everybody.
        first: (S + 1,), the first patient of each site, and the number of all.
        names: of the sites.
        longest: tokens in the longest window of each patient's records.
    """

    pool: Pool
    first: NDArray[np.int64]
    names: tuple[str, ...]
    longest: NDArray[np.int64]

    def patients(self, site: int) -> int:
        """The number of patients of a site."""
        return int(self.first[site + 1] - self.first[site])


def stack(pools: Mapping[str, Pool]) -> Stack:
    """Put pools into one; each pool's hidden states have the same padded length, as `federation.prepare` makes them."""
    parts = list(pools.values())
    hidden = Hidden.together([p.hidden for p in parts])  # states (B, T, D)
    starts = np.cumsum([0, *(len(p.labels) for p in parts)])
    records = tuple(mine + int(start) for p, start in zip(parts, starts, strict=False) for mine in p.records)
    pool = Pool(hidden, torch.cat([p.labels for p in parts]), records, np.concatenate([p.numbered for p in parts]))
    first = np.cumsum([0, *(p.patients for p in parts)])
    lengths = hidden.lengths  # (B,)
    return Stack(pool, first, tuple(pools), np.array([int(lengths[mine].max()) for mine in records], dtype=np.int64))


def answers(
    stacked: Stack,
    sites: Sequence[int],
    prompt: Array,
    plan: LocalPlan,
    scorer: Scorer,
    source: SimulationSource,
    *purpose: str | int,
    points: Mapping[int, Array] | None = None,
    controlled: Mapping[int, LocalPlan] | None = None,
) -> dict[int, Update]:
    """Return what each of these sites would send, as `client.round.answer` gives it, (P+L, D).

    Args:
        stacked: all sites' patients.
        sites: positions in `stacked.names`.
        prompt: the broadcast prompt (P+L, D).
        plan: the public facts of a round.
        scorer: backbone and prompt shape.
        source: of draws and noise.
        purpose: (run, round); streams are named as `answer` names them.
        points: site -> where its gradients are taken, (P+L, D), where that is not the broadcast prompt.
        controlled: site -> the plan by which it moves between its local steps, where that has a control.
    """
    run, round_ = purpose
    given = points or dict.fromkeys(sites if plan.steps > 1 else (), prompt)
    here = {site: torch.from_numpy(np.array(point)) for site, point in given.items()}  # (P+L, D) each
    same = torch.from_numpy(np.array(prompt))  # (P+L, D)
    total = {site: np.zeros(prompt.shape, dtype=np.int64 if plan.mechanism.exact else np.float64) for site in sites}
    for step in range(plan.steps):
        names = {site: (run, stacked.names[site], round_, step) for site in sites}
        drawn = {
            site: poisson(stacked.patients(site), plan.mechanism.sample_rate, source.stream("draw", *names[site])) for site in sites
        }
        prompts = torch.stack([here.get(site, same) for site in sites]) if here else same
        streams = {site: source.stream("noise", *names[site]) for site in sites}
        for site, noised in _released(stacked, drawn, prompts, plan.mechanism, scorer, streams):
            total[site] += noised.value  # (P+L, D)
            if step + 1 < plan.steps:
                here[site] = (controlled or {}).get(site, plan).move(here[site], noised, same)
    return {site: encode(value, plan.mechanism) for site, value in total.items()}


def answers_in_turn(
    stacked: Stack,
    carries: Mapping[int, Carry],
    prompt: Array,
    plan: LocalPlan,
    scorer: Scorer,
    source: SimulationSource,
    *purpose: str | int,
) -> dict[int, tuple[Update, Carry]]:
    """Return what each site of a banded run would send, (P+L, D), and take along, as `client.round.answer_in_turn` gives it.

    `carries` are of the sites that are asked; the other arguments are those of `answers`.
    """
    run, round_ = purpose
    mechanism, groups = plan.mechanism, stacked.pool.groups(plan.mechanism.bands)
    drawn = {}
    for site, carry in carries.items():
        mine = groups[stacked.first[site] : stacked.first[site + 1]]  # (N,)
        drawn[site] = drawn_in_turn(mine, mechanism, carry.turn, source, run, stacked.names[site], round_)
    place, patients = _placed(stacked, drawn)  # (N,) each
    sums = torch.zeros(mechanism.bands, len(drawn), prompt.size, dtype=torch.int64)  # (b, S, K)
    for index, gradients in _gradients(stacked, patients, place, torch.from_numpy(np.array(prompt)), scorer):
        sums.index_add_(1, torch.from_numpy(place)[index], torch.from_numpy(parts_of(gradients, mechanism)))
    found = {}
    for number, (site, carry) in enumerate(carries.items()):
        stream = source.stream("noise", run, stacked.names[site], round_, 0)
        noised, after = release_in_turn(sums[:, number].numpy(), mechanism, stream, carry)
        found[site] = encode(noised.value.reshape(prompt.shape), mechanism), after
    return found


def _released(
    stacked: Stack,
    drawn: Mapping[int, Indices],
    prompts: Tensor,
    mechanism: Mechanism,
    scorer: Scorer,
    streams: Mapping[int, Stream],
) -> Iterator[tuple[int, NoisedSum]]:
    """Give each site's noised sum; `prompts` is one for all (P+L, D), or one a site (S, P+L, D)."""
    shape = prompts.shape[-2:]
    place, patients = _placed(stacked, drawn)  # (N,) each
    if not mechanism.exact:
        kept = torch.zeros(len(patients), *shape)
        for index, gradients in _gradients(stacked, patients, place, prompts, scorer):
            kept[index] = gradients
        for number, site in enumerate(drawn):
            yield site, release(kept[torch.from_numpy(place == number)], mechanism, streams[site])
        return
    sums = torch.zeros(len(drawn), shape.numel(), dtype=torch.int64)  # (S, K)
    for index, gradients in _gradients(stacked, patients, place, prompts, scorer):
        rows = torch.from_numpy(clipped_rows(gradients, mechanism.clip_norm))  # (n, K)
        sums.index_add_(0, torch.from_numpy(place)[index], rows)
    for number, site in enumerate(drawn):
        clipped = ClippedSum(sums[number].numpy().reshape(shape), STEPS, mechanism.grid)
        yield site, add_noise(clipped, mechanism.noise_multiplier, streams[site])


def _placed(stacked: Stack, drawn: Mapping[int, Indices]) -> tuple[Indices, Indices]:
    """Return of all drawn patients, site after site, to which of `drawn` and which of the pool's they are, (N,) each."""
    place = np.repeat(np.arange(len(drawn)), [len(d) for d in drawn.values()])
    return place, np.concatenate([stacked.first[site] + d for site, d in drawn.items()])


def _gradients(
    stacked: Stack, patients: Indices, place: Indices, prompts: Tensor, scorer: Scorer
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give (positions in `patients` (n,), their gradients (n, P+L, D)), batch after batch, patients of like length together."""
    for index in _pieces(stacked, patients, scorer.at_once):
        mine = [stacked.pool.records[patients[i]] for i in index]
        records = torch.cat(mine)  # (R,)
        chosen = prompts if prompts.dim() == 2 else prompts[torch.from_numpy(place[index])][owners(mine)]  # (P+L, D), (R, P+L, D)
        each = scorer.record_gradients(
            stacked.pool.hidden[records], stacked.pool.labels[records], chosen, len(records)
        )  # (R, P+L, D)
        yield torch.from_numpy(index), patient_means(each, mine)


def _pieces(stacked: Stack, patients: Indices, batch: int) -> Iterator[NDArray[np.int64]]:
    """Cut the drawn patients, the shortest first, into pieces of about `batch` windows; a patient is never cut."""
    order = np.argsort(stacked.longest[patients], kind="stable")
    counts = np.array([len(stacked.pool.records[patients[i]]) for i in order], dtype=np.int64)
    piece = (np.cumsum(counts) - counts) // max(1, batch // stacked.pool.hidden.widest)
    for number in np.unique(piece):
        yield order[piece == number]
