"""`promptward keys site NAME`: a hospital makes its key pair. The private key never leaves the hospital."""

import argparse

from shared.errors import InputError
from shared.keys import make_site_key, write_site_key
from shared.keys_command import say


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    try:
        args.out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{args.out}: cannot be made ({error.strerror}); name another folder with --out.") from None
    key = make_site_key()
    private, public = write_site_key(args.out, args.name, key)
    found = {"site": args.name, "private_key": str(private), "public_key": str(public), "fingerprint": key.public.fingerprint}
    text = (
        f"{private}: the private key. It never leaves this hospital; the coordinator does not need it and may not ask for it.\n"
        f"{public}: the public key. Send it to the coordinator.\n"
        f"Fingerprint, to compare by telephone: {key.public.fingerprint}"
    )
    say(args.json, found, text)
    return 0
