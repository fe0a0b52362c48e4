"""What all tests share: SIGINT as in a terminal."""

import signal

# A shell has its background jobs ignore SIGINT, and tests of Ctrl-C could not send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
