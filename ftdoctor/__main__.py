"""`python -m ftdoctor` is the command `ftdoctor`."""

from __future__ import annotations

import os
import sys


def command() -> None:
    """Run the command; leave without freeing what it read object by object, a tenth of its time."""
    # The matrices here are small: a second thread of the algebra would only wait for work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from ftdoctor.cli import main

    try:
        main()
    except SystemExit as stop:
        # The cluster of a triage has processes of its own, which are ended in the ordinary way.
        if "distributed" in sys.modules or not isinstance(stop.code, int):
            raise
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            raise stop from None
        os._exit(stop.code)


if __name__ == "__main__":
    # Python puts the current folder first; it may be a stranger's run, whose modules must stay out.
    if not sys.flags.safe_path:
        del sys.path[0]
    command()
