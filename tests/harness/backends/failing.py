"""Ranks of which the second fails: -m tests.harness.backends.failing FAULT"""

import atexit
import os
import sys
import time
from array import array

from harness.backends.phases import be_a_rank, enter
from harness.backends.ranks import join_ranks, peer_lost
from harness.backends.signals import stop_requests
from harness.cli.parser import run_command
from harness.errors import HarnessError, PeerLost

DEADLINE_S = 10.0


def fail(fault: str) -> None:
    atexit.register(time.sleep, 3600)  # vLLM registers a teardown that waits for the other ranks
    if fault == "unable":
        raise HarnessError("unable to go on: raise --lr")
    if fault == "surprised":
        raise ValueError("surprised")
    time.sleep(3600)


def main(arguments: list[str]) -> None:
    be_a_rank(DEADLINE_S)
    with stop_requests():
        ranks = join_ranks(DEADLINE_S, is_gpu=False)
        mine = array("d", [0.1] * (1 - ranks.rank))
        assert ranks.gather_array(mine) == [array("d", [0.1]), array("d")]  # the second rank has nothing to send
        assert ranks.neighbours(2, DEADLINE_S).gather(ranks.rank, int) == [0, 1]
        enter("update")
        if ranks.rank == 1:
            fail(arguments[0])
        try:
            ranks.wait()
        except RuntimeError as error:
            if arguments[0] == "unable":
                os.abort()  # as NCCL's watchdog does
            if not peer_lost(error):
                raise
            raise PeerLost("another rank is gone") from None


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
