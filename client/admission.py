"""What comes in at a hospital's edge: a run is vetted before the SuperNode hears of it; a message comes in whole or not at all."""

import time
from dataclasses import dataclass
from typing import Any

from flwr.proto import fab_pb2, message_pb2, node_pb2, run_pb2

from client import fleet
from client.fleet import Asked, Headers, Terms
from client.line import Line
from shared.errors import RefusedError

ARRIVAL = 30.0  # seconds that the objects of a message may take to be there
RETRY = 0.5  # seconds between two questions for one that is not


@dataclass(frozen=True)
class Vetted:
    """The coordinator's answers about a run that was vetted, for the SuperNode."""

    run: bytes
    bundle: bytes


class Admission:
    """Remembers which runs were vetted, which requests were let in, and the objects of the last one."""

    def __init__(self, terms: Terms, line: Line) -> None:
        """Start with nothing let in."""
        self._terms, self._line = terms, line
        self._banned: set[int] = set()
        self.runs: dict[int, Vetted] = {}
        self.asked: dict[str, Asked] = {}
        self.objects: dict[str, bytes] = {}

    def let_in(self, answer: Any, node: int, headers: Headers) -> bool:
        """Say whether the one message in an answer to PullMessages may come in; what may not is written down."""
        if not answer.messages_list:
            return False
        try:
            self._admit(answer, node, headers)
        except RefusedError as error:
            self._line.refuse("PullMessages", error)
            return False
        return True

    def _admit(self, answer: Any, node: int, headers: Headers) -> None:
        if len(answer.messages_list) != 1 or len(answer.message_object_trees) != 1:
            raise RefusedError("more than one message was sent at once")
        message, tree = answer.messages_list[0], answer.message_object_trees[0]
        asked = fleet.admit_message(message, tree, node)
        self._vet(asked.run_id, node, headers)
        self.objects = self._fetch(asked.run_id, tree, node, headers)
        self.asked[message.metadata.message_id] = asked

    def _vet(self, run_id: int, node: int, headers: Headers) -> None:
        """Look at a run and its bundle once; the SuperNode's call for news has signed for these questions too."""
        if run_id in self.runs:
            return
        if run_id in self._banned:
            raise RefusedError(f"run {run_id} was refused before")
        try:
            self.runs[run_id] = self._vetted(run_id, node_pb2.Node(node_id=node), headers)
        except RefusedError:
            self._banned.add(run_id)
            raise

    def _vetted(self, run_id: int, node: Any, headers: Headers) -> Vetted:
        run = self._line.send("GetRun", run_pb2.GetRunRequest(node=node, run_id=run_id).SerializeToString(), headers)
        fleet.admit_run(run_pb2.GetRunResponse.FromString(run).run, self._terms)
        wanted = fab_pb2.GetFabRequest(node=node, hash_str=self._terms.bundle, run_id=run_id)
        bundle = self._line.send("GetFab", wanted.SerializeToString(), headers)
        content = fab_pb2.GetFabResponse.FromString(bundle).fab.content
        fleet.admit_bundle(content, fleet.sha256_of(content), self._terms)
        return Vetted(run, bundle)

    def _fetch(self, run_id: int, tree: Any, node: int, headers: Headers) -> dict[str, bytes]:
        """Return all of a message's objects, so that nothing inside waits for one that never comes."""
        objects: dict[str, bytes] = {}
        until = time.monotonic() + ARRIVAL
        for name in dict.fromkeys(fleet.ids_of(tree)):
            wanted = message_pb2.PullObjectRequest(node=node_pb2.Node(node_id=node), run_id=run_id, object_id=name)
            while not (found := self._line.ask("PullObject", wanted, headers, message_pb2.PullObjectResponse)).object_available:
                if not found.object_found or time.monotonic() > until:
                    raise RefusedError("a message was sent whose objects never came")
                time.sleep(RETRY)
            objects[name] = found.object_content
            if fleet.sha256_of(objects[name]) != name or sum(map(len, objects.values())) > self._terms.most_bytes:
                raise RefusedError(f"a message of more than {self._terms.most_bytes} bytes, or of false hashes, was sent")
        return objects
