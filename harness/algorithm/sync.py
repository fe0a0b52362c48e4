"""Copies the trainer's weights to the rollout engine and checks that they arrived.

Engines have been observed to report success but keep the old weights, or only the old output head if it is tied to the
embedding. So after every sync the engine answers a fixed prompt, and its log-probabilities are compared with the
trainer's. Stale weights shift those of every token, so the test is of the mean; a single token may be far off by
rounding. Differences below the tolerance go unnoticed; in bfloat16 a few small updates may have to accumulate first.
"""

import secrets

import torch

from harness.algorithm.correction import MAX_MEAN_GAP
from harness.algorithm.state import Training
from harness.config.schema import Config
from harness.errors import HarnessError
from harness.model.packing import pack_batch
from harness.rollouts.sampler import Sampling

PROBE_TOKENS = 32


def sync(training: Training, config: Config) -> float | None:
    """Copy the weights to this rank's engine; returns the largest gap over ranks, or None if the weights are shared.

    Raises HarnessError if an engine does not have the trainer's weights afterwards: if its answer is too far from the
    trainer's and another, whose random numbers no resumed run repeats, is too.
    """
    engine, backend, ranks = training.engine, training.updater.backend, training.ranks
    if not engine.needs_weights:
        return None
    engine.load_weights(backend.weights())
    gap = probe(training, config)
    tolerance = config.engine.sync_tolerance or MAX_MEAN_GAP[config.model.dtype]
    if not gap <= tolerance:
        again = probe(training, config, ranks.gather(secrets.token_hex(8), str)[0])
        if not again <= tolerance:
            raise HarnessError(
                f"expected the rollout engine to hold the trainer's weights after step {training.steps_done}, got "
                f"log-probabilities {gap:.3g} and {again:.3g} nats per token apart on two answers to a fixed prompt, "
                f"more than {tolerance:g}: the engine is stale or half loaded; use --engine torch, or raise "
                "--sync_tolerance if its kernels are that coarse"
            )
    return gap


@torch.no_grad()
def probe(training: Training, config: Config, *key: str) -> float:
    """Mean absolute gap of log-probabilities (nats) between engine and trainer on an answer to a fixed prompt.

    The largest over ranks, or NaN. key: of the answer's random numbers, besides the run's seed. Collective.
    """
    policy, temperature = training.policy, config.rollout.temperature
    problem = training.task.held_out(config.evaluation.eval_split, config.evaluation.eval_prompts)[0]
    prompt = policy.encode(problem.prompt)
    sampling = Sampling(min(PROBE_TOKENS, config.rollout.max_response_tokens), temperature)
    (answer,) = training.engine.generate([prompt], [(config.run.seed, "probe", *key)], sampling)
    logprobs, _ = training.updater.backend.logprobs(pack_batch([prompt], [answer.tokens], policy.device), temperature)
    gap = float((logprobs[0].double().cpu() - torch.tensor(answer.logprobs, dtype=torch.float64)).abs().mean())
    return float(torch.tensor(training.ranks.gather(gap, float), dtype=torch.float64).max())
