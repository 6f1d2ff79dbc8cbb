"""A small HTTP service: GET /health, POST /predict, OpenAPI at /openapi.json. Nothing of a request is logged or kept."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.picture_service import Pictures, PicturesAnswer, answer_pictures
from client.prediction import Question, absent_columns, predict
from client.scan import ScanPolicy
from shared.errors import InputError

Cell = str | int | float | bool | None


class Rows(BaseModel):
    """A request: rows as objects from column to value, and which prompts shall read them (default: all)."""

    model_config = ConfigDict(extra="forbid")
    rows: list[dict[str, Cell]] = Field(min_length=1)
    prompts: list[str] | None = Field(default=None, min_length=1)


class Said(BaseModel):
    """What one prompt says of one row."""

    label: str
    probabilities: dict[str, float]


class Answer(BaseModel):
    """For each row, in the order sent, what each prompt says; and the columns that a prompt reads and no row has."""

    predictions: list[dict[str, Said]]
    missing_columns: dict[str, list[str]]


class Health(BaseModel):
    """The service is up: its prompts with their labels, digests and whether they are calibrated here."""

    status: str
    prompts: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Limits:
    """What one request may hold: rows or files, bytes, and pixels that one file is decoded to."""

    rows: int
    bytes: int
    pixels: int = 25_000_000


def service(questions: Sequence[Question], limits: Limits, policy: ScanPolicy | None = None) -> FastAPI:
    """Return the application; the model reads one request at a time.

    Args:
        questions: all of one model, so all read sentences or all read images: that decides what POST /predict takes.
        limits: of a request.
        policy: what the hospital decided about its images; default: a file with burned-in text is refused.
    """
    app = FastAPI(title="Promptward", description="Predictions of soft prompts on one frozen model.", docs_url=None, redoc_url=None)
    known, lock = {question.reader.name: question for question in questions}, threading.Lock()
    app.add_middleware(_Bounded, most=limits.bytes)
    app.add_exception_handler(RequestValidationError, _without_the_body)

    def chosen(prompts: Sequence[str] | None, sent: int, what: str) -> list[Question]:
        """Return the prompts that a request asks; refuse one that is too large."""
        if sent > limits.rows:
            raise HTTPException(413, f"{sent} {what}; a request may hold {limits.rows}.")
        asked = list(dict.fromkeys(prompts or known))
        if strange := [name for name in asked if name not in known]:
            raise HTTPException(404, f"there is no prompt '{strange[0]}' here; there are {', '.join(known)}.")
        return [known[name] for name in asked]

    @app.get("/health")
    def health() -> Health:
        return Health(status="ok", prompts={name: _facts(question) for name, question in known.items()})

    def answer_rows(request: Rows) -> Answer:
        asked = chosen(request.prompts, len(request.rows), "rows")
        with lock:
            return _answer(asked, request.rows)

    def answer_files(request: Pictures) -> PicturesAnswer:
        asked = chosen(request.prompts, len(request.files), "files")
        with lock:
            return answer_pictures(asked, request, policy or ScanPolicy(), limits.pixels)

    app.post("/predict")(answer_files if questions[0].sees else answer_rows)
    return app


def _answer(questions: Sequence[Question], rows: Sequence[dict[str, Cell]]) -> Answer:
    names = [question.reader.name for question in questions]
    try:
        absent = {q.reader.name: absent_columns(rows, q, "request") for q in questions}
        found = [
            {name: Said(label=p.label, probabilities=dict(p.probabilities)) for name, p in zip(names, said, strict=True)}
            for said in predict(questions, rows, "request")
        ]
    except InputError as error:
        raise HTTPException(422, str(error)) from None
    return Answer(predictions=found, missing_columns=absent)


def _facts(question: Question) -> dict[str, Any]:
    reader = question.reader
    return {
        "task": reader.task.card.name,
        "task_digest": reader.task.digest,
        "prompt_sha256": reader.digest,
        "labels": reader.labels,
        "columns": [] if question.sees else [question.column(name) for name in reader.task.card.record_text.names],
        "reads": "images" if question.sees else "rows",
        "calibrated": question.temperature != 1.0,
    }


async def _without_the_body(_: Request, error: Exception) -> JSONResponse:
    """Say where a request is wrong without repeating what it holds."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    detail = [{"where": [str(part) for part in p["loc"]], "what": p["msg"]} for p in problems]
    return JSONResponse({"detail": detail}, status_code=422)


class _Bounded:
    """Reads a request up to its limit, whatever its header said, and hands it on whole; a longer one ends here."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        """Stand before `app`."""
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # who asked is gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._most:
                await JSONResponse({"detail": f"a request may hold {self._most} bytes."}, 413)(scope, receive, send)
                return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)
