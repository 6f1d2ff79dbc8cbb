"""Flower's ClientApp of a hospital: it hands each message to the resident hospital, and lets no text of an error out."""

import logging
from collections.abc import Callable

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from client.hospital import Hospital
from shared.wire import FAILED, unpack_request

log = logging.getLogger("promptward.site")


def client_app(hospital_of: Callable[[Context], Hospital]) -> ClientApp:
    """Return the ClientApp; `hospital_of` finds the hospital that a node's context belongs to."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        try:
            hospital = hospital_of(context)
            return Message(hospital.respond(unpack_request(message.content)), reply_to=message)
        except Exception as error:  # whatever it is, only the fixed code leaves
            log.warning("no reply to this request: %s", error)
            return refuse(message, context)

    # Flower answers an unregistered message type with an exception's text; a fixed code leaves instead.
    app.evaluate()(refuse)
    app.query()(refuse)
    return app


def refuse(message: Message, _context: Context) -> Message:
    """Answer with the fixed code and nothing else."""
    return Message(Error(FAILED), reply_to=message)
