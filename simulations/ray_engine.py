"""Flower's Ray engine: a round's messages go to Ray's actors, on this machine or on a cluster; see `simulations.actor`.

Actors and pool are Flower's own (`flwr.simulation.ray_transport`); Ray is imported here only, and only by `--engine ray`. The
ServerApp and its grid run in the process that was started, which takes each reply as soon as it is there.
"""

import contextlib
import functools
import gc
import importlib.util
import logging
import os
import socket
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flwr.app import Message, RecordDict
from flwr.common import MessageType

from client.app import log as site_log
from server.strategy import RoundSeen
from shared.errors import InputError, RunError
from shared.flower import context, give_id, identify, log_quietly
from shared.privacy.accounting import Spent
from shared.prompt import Array
from simulations.actor import ACTOR, LOADED, LOG, SECONDS, TOLD, WRONG, Place, app_of
from simulations.federation import Federation, Stopwatch, books, conduct, nodes, presence, spent_by
from simulations.grid import RUN_ID, LocalGrid

HOME = Path(__file__).resolve().parents[1]
ADDRESS = "RAY_ADDRESS"  # Ray's own name for the address of a cluster
STORE = 128 * 1024 * 1024  # bytes of Ray's shared memory: messages are small, and Ray would take a third of the machine
PATIENCE = 5.0  # seconds that a cluster may take to answer
EACH = {"num_cpus": 1.0}  # what an actor takes


@dataclass
class Actors:
    """Flower's pool of actors, all of which have opened the run.

    Attributes:
        pool: a `BasicActorPool`.
        place: where the actors find the run.
        loaded: how often each actor has opened the run, by its process id on its machine.
    """

    pool: Any
    place: Place
    loaded: dict[str, int] = field(default_factory=dict)

    def open(self) -> None:
        """Have every actor open the run, all at once; raise `InputError` with the reason of one that cannot."""
        identify(RUN_ID)
        asked = [Message(RecordDict(), number, MessageType.QUERY) for number in range(1, self.pool.num_actors + 1)]
        for message in asked:
            give_id(message, f"open-{message.metadata.dst_node_id}")
        for _ in self.deliver(0, Stopwatch(), asked):  # our app answers no query, but it opens the run
            pass

    def deliver(self, seed: int, watch: Stopwatch, messages: Sequence[Message]) -> Iterator[tuple[Message, Message]]:
        """Have messages answered, as many at a time as there are actors; give each with its reply as they come.

        `watch` adds up the sites' seconds, divided by the number of actors that work side by side.
        Raises `RunError` when an actor ended, or failed outside of a site's answer.
        """
        import ray  # noqa: PLC0415

        waiting = deque(messages)
        running: dict[Any, Message] = {}
        while waiting or running:
            while waiting and self.pool.is_actor_available():
                message = waiting.popleft()
                running[self._send(seed, message)] = message
            [done], _ = ray.wait(list(running), num_returns=1)
            reply, told = self._fetch(done)
            watch.seconds += told[SECONDS] / self.pool.num_actors
            self.loaded[told[ACTOR]] = told[LOADED]
            for line in told[LOG]:
                site_log.warning("%s", line)
            yield running.pop(done), reply

    def _send(self, seed: int, message: Message) -> Any:
        node = message.metadata.dst_node_id
        job = (functools.partial(app_of, self.place, seed), message, str(node), context(RUN_ID, node))
        return self.pool.submit(lambda actor, *what: actor.run.remote(*what), job)

    def _fetch(self, done: Any) -> tuple[Message, Any]:
        from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415

        try:
            reply, where = self.pool.fetch_result_and_return_actor_to_pool(done)
        except RayTaskError as error:
            raise RunError(f"a Ray actor failed ({error.cause!r}).") from None
        except RayError as error:
            raise RunError(
                f"a Ray actor ended ({type(error).__name__}), perhaps for want of memory; go on with: "
                f'promptward simulate --resume {self.place.run}, after lowering "actors" in its simulation.json.'
            ) from None
        told = where.state[TOLD]
        if told[WRONG]:
            raise InputError(told[WRONG])
        return reply, told


def require_ray() -> None:
    """Raise `InputError` where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError("--engine ray needs Ray, which is an extra: pip install 'promptward[ray]'.")


@contextlib.contextmanager
def actors(run: Path, count: int | None, address: str | None) -> Iterator[Actors]:
    """Start actors that have opened a run directory, and end them.

    Args:
        run: the directory; card and options are in it.
        count: how many; None: one for each core of this machine, or of the cluster.
        address: of a running Ray cluster; None: the one that RAY_ADDRESS names, or else a Ray of our own on this machine.
    """
    address = address or os.environ.get(ADDRESS)
    place = Place(run.resolve(), Path.cwd(), version("promptward"))
    log_quietly()
    with running(address, count or len(os.sched_getaffinity(0))):
        from flwr.simulation.ray_transport.ray_actor import BasicActorPool, ClientAppActor  # noqa: PLC0415

        pool = BasicActorPool(ClientAppActor, EACH, {})
        if count is not None and count > pool.actors_capacity:
            raise InputError(f"--actors {count}: Ray has {pool.actors_capacity} cores for actors; ask for no more.")
        pool.add_actors_to_pool(count or pool.actors_capacity)
        found = Actors(pool, place)
        found.open()
        yield found


@contextlib.contextmanager
def running(address: str | None, cores: int) -> Iterator[None]:
    """Have Ray running, quietly, at an address or with so many cores on this machine; one that runs already is left running."""
    with _quiet():
        import ray  # noqa: PLC0415
    if ray.is_initialized():
        yield
        return
    try:
        with _quiet():
            _start(address, cores)
        yield
    finally:
        with _quiet():
            ray.shutdown()
            gc.collect()  # Ray leaves open files and processes to the collector, which warns of them


def _start(address: str | None, cores: int) -> None:
    """Connect to the cluster at an address, or start a Ray with so many cores on this machine.

    Raises `InputError` when no cluster answers.
    """
    import ray  # noqa: PLC0415

    silent = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.chdir(HOME):  # Ray puts the working directory first on its actors' path: ours, and no folder named `client`
        if address is None:
            ray.init("local", num_cpus=cores, object_store_memory=STORE, **silent)
            return
        require_answer(address)
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"--ray-address {address}: no Ray cluster answers ({reason}); start one with: ray start.") from None


def require_answer(address: str) -> None:
    """Raise `InputError` unless something listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--ray-address {address}: give HOST:PORT, as ray start says them.")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray-address {address}: nothing answers there ({error}); start a cluster with: ray start.") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's warnings of its own doings from who cannot mend them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run_seed(
    pool: Actors, federation: Federation, seed: int, out: Path, watch: Stopwatch, observe: Callable[[RoundSeen], None]
) -> tuple[Array, dict[str, Spent]]:
    """Run, or go on with, one seed, as `federation.run_seed` does and with the same files; see there."""

    def deliver(messages: Sequence[Message]) -> Iterable[tuple[Message, Message]]:
        return pool.deliver(seed, watch, messages)

    grid = LocalGrid(deliver, nodes(federation), presence(federation, seed))
    return conduct(federation, seed, out, grid, observe), spent_by(federation, books(out, seed))
