"""`promptward serve-model PROMPT...`: predictions over HTTP, on this machine."""

import argparse
import ipaddress

import uvicorn
from rich.console import Console

from client.model_service import Limits, service
from client.questions import questions_of
from shared.errors import InputError, RunError


def run(args: argparse.Namespace) -> int:
    """Run the service until it is stopped."""
    if not _loopback(args.host) and not args.expose:
        raise InputError(
            f"--host {args.host}: other machines could reach this service, which has no login and no TLS; put a proxy that has "
            "them in front of 127.0.0.1, or add --expose."
        )
    if not 1 <= args.port <= 65535 or args.most_rows < 1 or args.most_bytes < 1:
        raise InputError("--port, --most-rows and --most-bytes are whole numbers above 0; mend the one that is not.")
    app = service(questions_of(args.prompts, args.site, args.library), Limits(args.most_rows, args.most_bytes))
    Console(stderr=True).print(f"Listening on http://{args.host}:{args.port}; stop with Ctrl-C.", highlight=False)
    try:
        uvicorn.run(app, host=args.host, port=args.port, access_log=False, log_level="warning", server_header=False, ws="none")
    except SystemExit:
        raise RunError(f"port {args.port} of {args.host} cannot be listened on; choose another --port.") from None
    return 0


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
