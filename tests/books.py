"""Files of a real federation without its processes: the ServerApp's own conduct, real hospitals, what a gateway writes down."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.proto import fleet_pb2, message_pb2

from client.app import client_app
from client.chain import Chain
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Ledger
from client.opening import proposal_of
from client.outbox import Outbox
from client.policy import Policy
from client.round import Pool
from client.transcript import Transcript
from server.deployment import Deployment, conduct, facts_of
from server.outcome import outcome
from server.patience import Patience
from server.report import write_report
from shared.card import Task
from shared.files import write_json
from shared.flower import envelope_of, give_id, objects_of, tree_of
from shared.privacy.planned import mechanism_of
from shared.privacy.source import SecureSource
from shared.prompt import Array
from shared.scoring import Scorer
from shared.wire import sha256, unpack_reply
from simulations.grid import RUN_ID, InProcessGrid

ROSTER = {"North": 1, "South": 2}


class RecordingGrid(InProcessGrid):
    """Writes down what each site's gateway would write of a reply that leaves."""

    def __init__(self, app: Any, transcripts: Mapping[int, Transcript]) -> None:
        super().__init__(app, transcripts)
        self._transcripts = transcripts

    def get_nodes(self) -> Iterable[Any]:
        return [SimpleNamespace(node_id=node, last_activated_at="once") for node in self._transcripts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        names = list(super().push_messages(messages))
        for name in names:
            self._record(self._replies[name])
        return names

    def _record(self, reply: Message) -> None:
        give_id(reply, reply.object_id)
        node = reply.metadata.src_node_id
        transcript = self._transcripts[node]
        record_reply(transcript, reply, node)


def record_reply(transcript: Transcript, reply: Message, node: int, seconds: float = 0.0) -> None:
    """Write a reply's calls into a transcript, as `client.gateway` does."""
    push = fleet_pb2.PushMessagesRequest(
        messages_list=[envelope_of(reply)], message_object_trees=[tree_of(reply)], clientapp_runtime_list=[seconds]
    )
    push.node.node_id = node
    transcript.sent("PushMessages", push.SerializeToString(), {"flwr-timestamp": 32})
    payload = None if reply.has_error() else sha256(unpack_reply(reply.content, np.dtype(np.int32)))
    for name, content in objects_of(reply).items():
        part = message_pb2.PushObjectRequest(run_id=RUN_ID, object_id=name, object_content=content, session_id="s")
        part.node.node_id = node
        transcript.sent("PushObject", part.SerializeToString(), {}, payload)
    if payload:
        transcript.delivered(payload)


@dataclass(frozen=True)
class Files:
    """A coordinator's run directory and the hospitals' folders."""

    run: Path
    sites: Path

    def site(self, name: str) -> Path:
        return self.sites / name


def open_sites(task: Task, scorer: Scorer, patients: Pool, folder: Path, epsilon: float) -> dict[int, Hospital]:
    proposal = proposal_of(task, mechanism_of(task.card))
    dtype = proposal.plan.mechanism.dtype
    return {
        node: Hospital(
            name=name,
            policy=Policy(epsilon if name == "South" else 100.0, 1e-4, (task.digest,), 100.0),
            proposal=proposal,
            pool=patients,
            scorer=scorer,
            source=SecureSource(),
            ledger=Ledger(Chain(folder / name / "ledger.jsonl")),
            gate=Gate(scorer.shape, dtype, Chain(folder / name / "ledger.egress.jsonl")),
            outbox=Outbox(folder / name / "ledger.outbox"),
        )
        for name, node in ROSTER.items()
    }


def play(task: Task, scorer: Scorer, prompt: Array, patients: Pool, folder: Path, epsilon: float = 100.0) -> Files:
    """Run a whole federation; with a small `epsilon`, South's budget ends on the way."""
    hospitals = open_sites(task, scorer, patients, folder / "sites", epsilon)

    def hospital_of(where: Context) -> Hospital:
        return hospitals[where.node_id]

    deployment = Deployment(folder / "run")
    deployment.folder.mkdir(parents=True)
    deployment.card.write_text(task.text)
    write_json(deployment.facts, facts_of("1234abcd", ROSTER, Patience(first=60, least=1)))
    np.save(deployment.start, prompt)
    transcripts = {
        node: Transcript(Chain(folder / "sites" / name / "ledger.transcript.jsonl", durable=False)) for name, node in ROSTER.items()
    }
    conduct(deployment, RecordingGrid(client_app(hospital_of), transcripts))
    result = outcome(deployment, deployment.run(), 12.5)
    write_json(deployment.folder / "result.json", result)
    write_report(result, task.card, deployment.folder / "report.html")
    return Files(deployment.folder, folder / "sites")
