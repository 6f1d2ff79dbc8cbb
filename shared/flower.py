"""Everything that depends on how Flower 1.39 is made inside, so that another release changes this one file."""

import logging

from flwr.app import Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


def log_quietly() -> None:
    """Let Flower log warnings only: what a person should see, Promptward shows."""
    logging.getLogger("flwr").setLevel(logging.WARNING)


def identify(run_id: int) -> None:
    """Say which run this process belongs to; `Message()` reads it."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, 1, 1


def give_id(message: Message, name: str) -> None:
    """Give a message the id that a SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = name


def empty_run(run_id: int) -> Run:
    """Return the description of a run without an app bundle."""
    return Run.create_empty(run_id)


def context(run_id: int, node_id: int) -> Context:
    """Return the context that Flower hands to an app at this node."""
    return Context(run_id=run_id, node_id=node_id, node_config={}, state=RecordDict(), run_config={})


def deflated_size(message: Message) -> int:
    """Return the bytes of a message as Flower sends it: every object of its tree, the array included."""
    return sum(len(part.deflate()) for part in get_all_nested_objects(message).values())
