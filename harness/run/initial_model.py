"""Loads the policy that a run starts from, or trains it for the tiny model."""

from pathlib import Path

from harness.config.schema import Config
from harness.console import command, say
from harness.errors import UsageError
from harness.files import sha256_of
from harness.model.checkpointing import check_checkpointing
from harness.model.lora import check_export, note_frozen_experts, with_adapters
from harness.model.policy import Policy, load_policy
from harness.rollouts.vllm_engine import check_split, sizes_to_split
from harness.run.environment import model_sha256
from harness.run.folder import MANIFEST, OPTIMIZER, STATE, TRAINED, FolderFault, check_manifest
from harness.run.history import History
from harness.run.packaged_model import model_source
from harness.run.tiny_model import Progress, tiny_model_folder

DEMONSTRATED_PROMPT_TOKENS = 64  # upper bound: prompts of the tiny model's tasks have at most 25 characters


def initial_policy(config: Config, on_warm_start: Progress | None = None) -> Policy:
    """The config's model with its adapters, if any, or that of --start_from.

    The tiny model is warm-started first unless it is cached. Raises UsageError if the model cannot be loaded or does
    not fit the config.
    """
    settings = config.model
    if config.run.start_from:
        check_start(Path(config.run.start_from))
        return pretrained_policy(config.run.start_from, config)
    if settings.model == "tiny":
        folder = tiny_model_folder(config.task.task, settings.model_seed, config.run.threads, on_warm_start)
        return with_adapters(load_policy(str(folder), settings.dtype), settings)
    policy = with_adapters(pretrained_policy(settings.model, config), settings)
    check_export(policy, settings)
    if settings.lora_rank:
        note_frozen_experts(policy.model)
    if settings.gradient_checkpointing:
        check_checkpointing(policy.model)
    return policy


def check_start(folder: Path) -> None:
    """Raise UsageError unless the folder is a checkpoint with all that is trained in its weights."""
    try:
        check_manifest(folder)
        if not (folder / STATE).is_file() or not (folder / OPTIMIZER).is_file() or (folder / TRAINED).is_file():
            raise FolderFault(f"{folder}: expected {STATE}, {OPTIMIZER} and no {TRAINED}, got other files")
    except FolderFault as fault:
        raise UsageError(f"--start_from {fault}: name one written by {command('harness', 'checkpoint')}") from None


def start_facts(config: Config) -> dict[str, str]:
    """What environment.json says of --start_from, if any: the hash of its manifest, which has that of every file."""
    folder = config.run.start_from
    return {"start_from_sha256": sha256_of(Path(folder) / MANIFEST)} if folder else {}


def pretrained_policy(model: str, config: Config) -> Policy:
    """Load a policy from a folder or the hub, with `context_tokens` positions if that is set.

    Raises UsageError if the longest prompt and response together exceed the model's number of positions, or if
    --rollout_tp cannot split it.
    """
    settings, data, is_bounded = config.model, config.data, not config.task.is_demonstrated
    prompt = data.max_prompt_tokens if is_bounded else DEMONSTRATED_PROMPT_TOKENS
    longest = prompt + config.rollout.max_response_tokens
    source = model_source(model)
    policy = load_policy(source, settings.dtype, settings.model_revision, settings.context_tokens, longest)
    check_split(sizes_to_split(policy.model.config), config.engine.rollout_tp)
    has = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    if is_bounded and has is not None and longest > has:
        raise UsageError(
            f"--max_prompt_tokens {data.max_prompt_tokens} and --max_response_tokens "
            f"{config.rollout.max_response_tokens} need {longest} positions, got a model with {has}: lower them, or "
            f"raise its positions with --context_tokens {longest}"
        )
    return policy


def recorded_initial_policy(history: History) -> Policy:
    """The policy that a recorded run started from: as the run saved it, or else rebuilt or loaded again.

    Raises UsageError if the weights differ from those that the run recorded.
    """
    config, kept = history.config, history.initial_weights
    settings = config.model
    if config.run.start_from:
        check_start(Path(config.run.start_from))
        if start_facts(config)["start_from_sha256"] != history.environment.get("start_from_sha256"):
            raise UsageError(
                f"{history.path}: expected the checkpoint that the run recorded (start_from_sha256), got another in "
                f"{config.run.start_from}: restore it"
            )
    recorded = settings.model_revision or history.environment.get("model_revision")
    config = config.model_copy(update={"model": settings.model_copy(update={"model_revision": recorded})})
    try:
        check_manifest(kept)
    except FolderFault as fault:
        if kept.exists():
            say(f"note: {fault}; the initial weights are rebuilt")
        policy = initial_policy(config)
    else:
        policy = with_adapters(load_policy(str(kept), settings.dtype), settings)
    if model_sha256(policy) != history.environment.get("model_sha256"):
        raise UsageError(
            f"{history.path}: expected the initial weights that the run recorded (model_sha256), got others from "
            f"--model {settings.model}: restore {kept}, or the original model"
        )
    return policy
