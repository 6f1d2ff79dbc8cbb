"""`promptward serve-model PROMPT...`: predictions over HTTP, on this machine."""

import argparse
import ipaddress

import uvicorn
from rich.console import Console

from client.model_service import Limits, service
from client.prediction import Question
from client.questions import questions_of
from client.scan import ScanPolicy
from client.site import ImagesTable, load_site
from shared.errors import InputError, RunError

BYTES_OF_ROWS, BYTES_OF_IMAGES = 1_000_000, 60_000_000


def run(args: argparse.Namespace) -> int:
    """Run the service until it is stopped."""
    if not _loopback(args.host) and not args.expose:
        raise InputError(
            f"--host {args.host}: other machines could reach this service, which has no login and no TLS; put a proxy that has "
            "them in front of 127.0.0.1, or add --expose."
        )
    numbers = (args.port, args.most_rows, args.most_pixels, 1 if args.most_bytes is None else args.most_bytes)
    if min(numbers) < 1 or args.port > 65535:
        raise InputError("--port, --most-rows, --most-bytes and --most-pixels are whole numbers above 0; mend the one that is not.")
    app = service(*_served(args))
    Console(stderr=True).print(f"Listening on http://{args.host}:{args.port}; stop with Ctrl-C.", highlight=False)
    try:
        uvicorn.run(app, host=args.host, port=args.port, access_log=False, log_level="warning", server_header=False, ws="none")
    except SystemExit:
        raise RunError(f"port {args.port} of {args.host} cannot be listened on; choose another --port.") from None
    return 0


def _served(args: argparse.Namespace) -> tuple[list[Question], Limits, ScanPolicy]:
    """Return the prompts, a request's limits, and what the hospital decided about its images."""
    questions = questions_of(args.prompts, args.site, args.library)
    sees = questions[0].sees
    if sees:  # of a JPEG inside a DICOM file the header of the file does not say how large it is
        from PIL import Image  # noqa: PLC0415 (only where there are images)

        Image.MAX_IMAGE_PIXELS = args.most_pixels
    table = load_site(args.site).data if args.site else None
    policy = ScanPolicy(allow_burned_in=isinstance(table, ImagesTable) and table.policy.allow_burned_in)
    size = args.most_bytes or (BYTES_OF_IMAGES if sees else BYTES_OF_ROWS)
    return questions, Limits(args.most_rows, size, args.most_pixels), policy


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
