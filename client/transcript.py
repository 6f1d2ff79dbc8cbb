"""The transcript: a hash-chained log of every byte that a hospital's edge sends to the coordinator.

One line a call, with the call's bytes. Calls that only ask for news (`PullMessages`, `SendNodeHeartbeat`) are the same few
bytes all day; runs of the same one become one line with a count.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.chain import Chain, Entry, read_chain

ENDING = ".transcript.jsonl"  # of a transcript's file, after the name of the ledger beside it
NEWS = ("PullMessages", "SendNodeHeartbeat")
FLUSH = 100  # news calls that are counted before their line is written


@dataclass(frozen=True)
class Sent:
    """One line: the call, its bytes, how often it was sent, and which payload of the ledger it carried, if any.

    `headers` are the sizes of the gRPC headers that went with it. `delivered` and `refused` lines hold no bytes: they say which
    payload the coordinator has taken whole, and why something did not leave or was not let in.
    """

    call: str
    content: bytes
    times: int
    headers: Mapping[str, int]
    payload: str | None
    delivered: str | None
    refused: str | None
    when: float = 0.0  # seconds since 1970; of calls that were counted, the time of the last


class Transcript:
    """An open transcript, written by the gateway alone."""

    def __init__(self, chain: Chain) -> None:
        """Go on with what is there."""
        self._chain = chain
        self._news: tuple[str, bytes, dict[str, int]] | None = None
        self._times = 0

    def sent(self, call: str, content: bytes, headers: Mapping[str, int], payload: str | None = None) -> None:
        """Write down a call before it leaves."""
        if call in NEWS:
            self._count(call, content, dict(headers))
            return
        self.flush()
        self._chain.append(_body(call, content, headers) | ({"payload": payload} if payload else {}))

    def delivered(self, payload: str) -> None:
        """Write down that the coordinator has taken all of a payload."""
        self.flush()
        self._chain.append({"call": "PushObject", "delivered": payload})

    def refused(self, call: str, reason: str) -> None:
        """Write down that something did not leave, or was not let in, and why."""
        self.flush()
        self._chain.append({"call": call, "refused": reason})

    def flush(self) -> None:
        """Write the line of the news calls that were counted so far."""
        if self._news and self._times:
            self._chain.append(_body(*self._news) | {"times": self._times})
        self._news, self._times = None, 0

    def close(self) -> None:
        """Write what was only counted, and let other processes open the file."""
        self.flush()
        self._chain.close()

    def _count(self, call: str, content: bytes, headers: dict[str, int]) -> None:
        if self._news != (call, content, headers) or self._times >= FLUSH:
            self.flush()
            self._news = (call, content, headers)
        self._times += 1


def read_transcript(path: Path) -> list[Sent]:
    """Read and verify a transcript; raise `InputError` naming file and line where the chain breaks."""
    return [_line(entry) for entry in read_chain(path)]


def _body(call: str, content: bytes, headers: Mapping[str, int]) -> dict[str, Any]:
    return {
        "call": call,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content": base64.b64encode(content).decode(),
        "headers": dict(headers),
    }


def _line(entry: Entry) -> Sent:
    body = entry.body
    content = base64.b64decode(body.get("content", ""))
    return Sent(
        call=body["call"],
        content=content,
        times=body.get("times", int(bool(content))),
        headers=body.get("headers", {}),
        payload=body.get("payload"),
        delivered=body.get("delivered"),
        refused=body.get("refused"),
        when=entry.time,
    )
