"""Progress lines that the commands print."""

from collections.abc import Callable

from harness.algorithm.metrics import Metrics
from harness.console import say


def print_warm_start(done: int, total: int) -> None:
    if done == 1 or done % max(1, total // 10) == 0:
        say(f"warm start: step {done}/{total}")


def step_printer(steps: int) -> Callable[[Metrics], None]:
    """A function that prints a line per training step, with the time left at the pace so far."""

    def show(metrics: Metrics) -> None:
        done = int(metrics["step"] or 0) + 1
        left = float(metrics["time/elapsed_s"] or 0) / done * (steps - done)
        share = metrics["rollout/unchecked_share"]
        unchecked = f"unchecked {share:.1%}  " if share else ""
        say(
            f"step {done}/{steps}  accuracy {metrics['rollout/accuracy']:.3f}  "
            f"tokens {metrics['rollout/response_tokens_mean']:.1f}  entropy {metrics['rollout/entropy']:.3f}  "
            f"rounds {metrics['rollout/sampling_rounds']}  {unchecked}{left:.0f} s left"
        )

    return show
