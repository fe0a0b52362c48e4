"""What all tests share: SIGINT as in a terminal, and no MLflow but where it is tested."""

import os
import signal

# A shell has its background jobs ignore SIGINT, and tests of Ctrl-C could not send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["MLFLOW_TRACKING_URI"] = "none"  # but for the tests of tracking: a logger beside each study takes seconds
