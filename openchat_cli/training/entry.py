"""The process of one rank that launch.py starts: `python -m openchat_cli.training.entry`.

stdin brings one line of JSON (the run and the rank's place), then stays open as long as the
launcher lives: when it closes, the rank ends itself, so that no rank is ever left behind.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from openchat_cli.training import events
from openchat_cli.training.settings import Ranks, Run


def main() -> int:
    """Train as told on stdin; errors go to the launcher as events, tracebacks to stderr."""
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    emit = events.writer(told["events"])
    ranks = Ranks(**told["ranks"])
    if told["loopback"] is not None:
        # One machine needs no network: gloo would else look up the host's own name.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", told["loopback"])
    # Threads that spin while they wait starve each other as soon as a core is shared with any other
    # process (measured: 300 to 1,200 tokens/s instead of 5,000). Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    try:
        from openchat_cli.training.worker import run_rank

        run_rank(Run.from_row(told["run"]), ranks, emit, rendezvous=Path(told["rendezvous"]))
    except BaseException as error:
        traceback.print_exc()
        emit(events.of_error(error, ranks.rank))
        return 1
    return 0


def _end_with_launcher() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # Teardown of torch takes a second that nobody needs.
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
