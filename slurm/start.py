"""Start Python in a job with the signal blocked by which SLURM says that the job will be ended.

It may come while Python still loads, where nobody answers it and it would end the job for good. Blocked, it waits until
`Stoppable` can answer it.
"""

import os
import signal
import sys

ENDING = frozenset({signal.SIGUSR1, signal.SIGUSR2})
"""submitit asks SLURM for one of these."""

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
