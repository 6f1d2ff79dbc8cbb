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

from client.prediction import Question, absent_columns, predict
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
    """What one request may hold."""

    rows: int
    bytes: int


def service(questions: Sequence[Question], limits: Limits) -> FastAPI:
    """Return the application; the model reads one request at a time."""
    app = FastAPI(title="Promptward", description="Predictions of soft prompts on one frozen model.", docs_url=None, redoc_url=None)
    known, lock = {question.reader.name: question for question in questions}, threading.Lock()
    app.add_middleware(_Bounded, most=limits.bytes)
    app.add_exception_handler(RequestValidationError, _without_the_body)

    @app.get("/health")
    def health() -> Health:
        return Health(status="ok", prompts={name: _facts(question) for name, question in known.items()})

    @app.post("/predict")
    def answer(request: Rows) -> Answer:
        if len(request.rows) > limits.rows:
            raise HTTPException(413, f"{len(request.rows)} rows; a request may hold {limits.rows}.")
        asked = list(dict.fromkeys(request.prompts or known))
        if strange := [name for name in asked if name not in known]:
            raise HTTPException(404, f"there is no prompt '{strange[0]}' here; there are {', '.join(known)}.")
        with lock:
            return _answer([known[name] for name in asked], request.rows)

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
        "columns": [question.column(name) for name in reader.task.card.record_text.names],
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
