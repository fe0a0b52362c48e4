"""Copies the trainer's weights to the rollout engine and checks that they arrived.

Engines have been observed to report success but keep the old weights, or only the old output head if it is tied to the
embedding. So after every sync the engine answers a fixed prompt, and its log-probabilities are compared with the
trainer's. Differences below the tolerance go unnoticed; in bfloat16 a few small updates may have to accumulate first.
"""

import torch

from harness.algorithm.state import Training
from harness.config.schema import Config
from harness.errors import HarnessError
from harness.model.packing import pack_batch
from harness.rollouts.engine import Actors
from harness.rollouts.sampler import Sampling

PROBE_TOKENS = 32
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25}  # nats


def sync(training: Training, config: Config) -> float | None:
    """Copy the weights to this rank's engine; returns the largest gap over ranks, or None if the weights are shared.

    Raises HarnessError if an engine does not have the trainer's weights afterwards.
    """
    engine, backend = training.actors.engine, training.updater.backend
    if not engine.needs_weights:
        return None
    engine.wake()
    engine.load_weights(backend.weights())
    gap = max(training.actors.ranks.gather(probe(training, config), float))
    tolerance = config.engine.sync_tolerance or TOLERANCE[config.model.dtype]
    if not gap <= tolerance:
        raise HarnessError(
            f"expected the rollout engine to hold the trainer's weights after step {training.steps_done}, got "
            f"log-probabilities up to {gap:.3g} nats apart on a fixed prompt, more than {tolerance:g}: the engine is "
            "stale or half loaded; use --engine torch, or raise --sync_tolerance if its kernels are that coarse"
        )
    return gap


@torch.no_grad()
def probe(training: Training, config: Config) -> float:
    """Largest log-probability gap (nats) between engine and trainer on the engine's answer to a fixed prompt."""
    policy, temperature = training.policy, config.rollout.temperature
    problem = training.task.held_out(config.evaluation.eval_split, config.evaluation.eval_prompts)[0]
    prompt = policy.encode(problem.prompt)
    sampling = Sampling(min(PROBE_TOKENS, config.rollout.max_response_tokens), temperature)
    (answer,) = Actors(training.actors.engine).generate([prompt], [(config.run.seed, "probe")], sampling)
    logprobs, _ = training.updater.backend.logprobs(pack_batch([prompt], [answer.tokens], policy.device), temperature)
    return float((logprobs[0].double().cpu() - torch.tensor(answer.logprobs, dtype=torch.float64)).abs().max())
