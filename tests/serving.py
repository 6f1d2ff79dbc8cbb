"""The prediction service in a thread of this process, on a real port."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
import uvicorn

from client.model_service import Limits, service
from client.prediction import Question
from shared.processes import free_port


@contextmanager
def served(questions: Sequence[Question], limits: Limits) -> Iterator[httpx.Client]:
    """Serve while the block runs; give a client."""
    config = uvicorn.Config(service(questions, limits), port=free_port(), log_level="warning", access_log=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{config.port}", timeout=60) as calls:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield calls
    finally:
        server.should_exit = True
        thread.join()
