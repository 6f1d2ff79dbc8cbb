"""Do the coordinator's own files say the same: transcript, checkpoints, metrics.jsonl, result.json?"""

from collections.abc import Iterator

from audits.coordinator import Round, RunFiles
from audits.finding import Finding


def check_coordinator(run: RunFiles) -> list[Finding]:
    """Return where the coordinator's files contradict each other."""
    found = [finding for round_ in run.rounds for finding in _round(run, round_)]
    return found + list(_result(run))


def _round(run: RunFiles, round_: Round) -> Iterator[Finding]:
    def says(sentence: str, site: str | None = None) -> Finding:
        return Finding("coordinator", sentence, site, round_.run, round_.number)

    for name in sorted(set(round_.updates) - set(run.task.card.plan.sites)):
        yield says(f"its transcript holds an update of '{name}', who is not on the roster", name)
    if round_.received is None:
        yield says("there is no checkpoint of this round")
    for name, payload in round_.updates.items():
        if round_.received is not None and round_.received.get(name) != payload:
            yield says("its checkpoint names another payload than the one in its transcript", name)
    if round_.contributed is None:
        yield says("metrics.jsonl has no line of this round")
        return
    for name in sorted(round_.contributed ^ set(round_.updates)):
        missing = "no update of it is in the transcript" if name in round_.contributed else "an update of it is in the transcript"
        counts = "contributed" if name in round_.contributed else "did not contribute"
        yield says(f"metrics.jsonl says that the site {counts}, and {missing}", name)


def _result(run: RunFiles) -> Iterator[Finding]:
    if run.result.get("task_digest") != run.task.digest:
        yield Finding("coordinator", "result.json names another task digest than task.toml has")
    for name in run.runs:
        rounds = [round_ for round_ in run.rounds if round_.run == name]
        numbers = {round_.number for round_ in rounds}
        done = run.result.get("rounds_done", run.result.get("rounds"))
        missing = sorted(set(range(1, max([*numbers, int(done or 0)]) + 1)) - numbers)
        if missing:
            yield Finding("coordinator", f"the transcript has no file of round {', '.join(map(str, missing))}", run=name)
    sites = run.told
    for name in run.task.card.plan.sites:
        if name not in sites:
            yield Finding("coordinator", "result.json does not name this site", name)
            continue
        counted = min(sum(name in r.updates for r in run.rounds if r.run == run_name) for run_name in run.runs)
        told = sites[name].get("rounds_contributed")
        if told != counted:
            yield Finding("coordinator", f"result.json says {told} rounds contributed; the transcript holds {counted}", name)
