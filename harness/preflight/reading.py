"""A launch as its file gives it: which library, which of its keys, with what texts, on which lines. Nothing is run."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError, first_line
from harness.preflight.shell import UNKNOWN, Command, Shell, Word
from harness.preflight.tables import TABLES

HYDRA = re.compile(r"[+~]{0,2}([a-z_]\w*(?:\.\w+)+)=(.*)", re.S)
SHIPPED = {"ppo_trainer", "ppo_megatron_trainer", "dapo_trainer", "dapo_megatron_trainer", "_self_"}
PROCESSES = re.compile(r"--(num[-_]processes|nproc[-_]per[-_]node|num[-_]gpus)")
GRPO_ONLY = {"num_generations", "num_iterations", "max_completion_length", "steps_per_generation", "beta", "loss_type"}


@dataclass(frozen=True)
class Given:
    """What the file sets a key to; UNKNOWN in the text is what only the running script knows."""

    text: str
    line: int
    path: Path


@dataclass
class Launch:
    """`processes` is None where the file does not say; `gaps` are sentences on what could not be read."""

    path: Path
    library: str
    line: int
    program: str
    given: dict[str, Given] = field(default_factory=dict)
    processes: int | None = None
    gaps: list[tuple[int, str]] = field(default_factory=list)
    is_open: bool = False  # a file that may set more keys was not found, so that no default is sure
    cut_off: list[Word] = field(default_factory=list)  # arguments behind a comment or blank that ended the command


def read_launch(path: Path, processes: int | None = None) -> Launch:
    """The launch in the file. Raises UsageError if the file cannot be read or has none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a launch as a text file, got {first_line(error)}: name another") from None
    if path.suffix == ".py":
        launch = of_python(path, text)
    elif path.suffix in (".yaml", ".yml", ".json"):
        launch = of_yaml(path, text)
    else:
        launch = of_shell(path, text)
    launch.processes = processes or launch.processes
    return launch


def of_shell(path: Path, text: str) -> Launch:
    commands = list(Shell(text).commands())
    found = [number for number, command in enumerate(commands) if library_of(command)]
    if not found:
        raise UsageError(
            f"{path}: expected a launch of verl (python3 -m verl.trainer.main_ppo key=value), TRL (trl grpo --key value) or "
            "ms-swift (swift rlhf --rlhf_type grpo --key value), got none of them: name a file that has one"
        )
    command = commands[found[0]]
    library, words = library_of(command), command.words
    launch = Launch(path, library, words[0].line, program_of(words))
    launch.gaps += [(commands[other].words[0].line, "another launch in the same file is not read") for other in found[1:2]]
    (take_hydra if library == "verl" else take_flags)(launch, words)
    launch.processes = launch.processes or processes_of(launch, command)
    for following in commands[found[0] + 1 :]:
        if not following.words[0].text.startswith("--") and not HYDRA.match(following.words[0].text):
            break
        launch.cut_off += following.words
    return launch


def library_of(command: Command) -> str:
    """Which library's training of this kind the command starts; empty if none."""
    texts = [word.text for word in command.words]
    line = " ".join(texts)
    if any((key := HYDRA.match(text)) and key[1].startswith(("actor_rollout_ref.", "algorithm.")) for text in texts):
        return "verl"
    if re.search(r"(\brlhf(\.py)? ).*(--rlhf_type[ =]grpo\b|\.ya?ml\b)", line):
        return "ms-swift"
    flags = {re.split("[= ]", text[2:])[0].replace("-", "_") for text in texts if text.startswith("--")}
    if re.search(r"\btrl grpo\b", line) or (".py" in line and len(flags & GRPO_ONLY) > 1):
        return "trl"
    return ""


def program_of(words: list[Word]) -> str:
    """The words up to the first argument of the training, such as `python3 -m verl.trainer.main_ppo`."""
    texts = [word.text for word in words]
    names = [n for n, text in enumerate(texts) if text.endswith(".py") or text in ("rlhf", "grpo") or ".main" in text]
    start = next((n for n, text in enumerate(texts) if re.match(r"python|trl$|swift$|megatron$", text)), 0)
    return " ".join(texts[min(start, names[0]) : names[0] + 1]) if names else texts[0]


def take_hydra(launch: Launch, words: list[Word]) -> None:
    texts = [word.text for word in words]
    options = {}
    for name in ("config-path", "config-name", "config_name", "config_path"):
        given = [text.partition("=")[2] or texts[n + 1] for n, text in enumerate(texts[:-1]) if text.startswith(f"--{name}")]
        options |= {name.replace("_", "-"): given[-1]} if given else {}
    name = options.get("config-name", "ppo_trainer").removesuffix(".yaml")
    if name not in SHIPPED:
        take_file(launch, f"{options.get('config-path', 'config')}/{name}.yaml", launch.line)
    for word in words:
        if (match := HYDRA.fullmatch(word.text)) and not word.text.startswith(("-", "~")):
            launch.given[plain(match[1])] = Given(match[2].strip("'\""), word.line, launch.path)
        elif word.text == UNKNOWN:
            launch.gaps.append((word.line, "arguments in a variable that the script does not set are not known"))


def take_flags(launch: Launch, words: list[Word]) -> None:
    """--key value ..., --key=value and --key alone, which is true; behind a file of settings, which they override."""
    start = next((n for n, word in enumerate(words) if re.search(r"^grpo$|^rlhf$|rlhf\.py$", word.text)), None)
    start = next(n for n, word in enumerate(words) if word.text.endswith(".py")) if start is None else start
    values: dict[str, tuple[int, list[str]]] = {}
    key = ""
    for word in words[start + 1 :]:
        if word.text.startswith("--"):
            key, _, value = word.text[2:].partition("=")
            key = key.replace("-", "_")
            values[key] = (word.line, [value] if value else [])
        elif key:
            values[key][1].append(word.text)
        elif word.text.endswith((".yaml", ".yml", ".json")):
            take_file(launch, word.text, word.line)
        elif word.text == UNKNOWN:
            launch.gaps.append((word.line, "arguments in a variable that the script does not set are not known"))
    if launch.library == "trl" and "config" in values:
        take_file(launch, " ".join(values["config"][1]), values["config"][0])
    for key, (line, texts) in values.items():
        launch.given[key] = Given(" ".join(texts) if texts else "true", line, launch.path)


def take_file(launch: Launch, name: str, line: int) -> None:
    """The keys of a YAML file that the launch names, found beside the launch or above it."""
    tail = name.rpartition(UNKNOWN)[2].lstrip("/")
    found = next((file for above in launch.path.absolute().parents if (file := above / tail).is_file()), None)
    if not tail or found is None:
        launch.is_open = True
        launch.gaps.append((line, f"{tail or 'the file of settings'} was not found: what it sets is not known"))
        return
    for key, node in leaves(composed(found, found.read_text(encoding="utf-8"))):
        launch.given[plain(key)] = Given(text_of(node), node.start_mark.line + 1, found)


def processes_of(launch: Launch, command: Command) -> int | None:
    """How many processes train, where the command or its environment says so."""
    texts = [word.text for word in command.words]
    counts = [text.partition("=")[2] or texts[n + 1] for n, text in enumerate(texts[:-1]) if PROCESSES.match(text)]
    if counts and not (launch.library == "trl" and "--num_machines" in texts):
        return int(counts[-1]) if counts[-1].isdecimal() else None
    per_node, nodes = command.variables.get("NPROC_PER_NODE", "1"), command.variables.get("NNODES", "1")
    if launch.library == "ms-swift" and "torchrun" not in texts and (per_node + nodes).isdecimal():
        return int(per_node) * int(nodes)
    return None


def plain(key: str) -> str:
    """The key without the prefix that all of verl's policy keys have."""
    return key.removeprefix("actor_rollout_ref.")


def composed(path: Path, text: str) -> yaml.Node | None:
    """The YAML document as nodes with lines; no object is built from it. Raises UsageError."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: expected YAML, got {' '.join(str(error).split())}: mend it") from None


def leaves(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, yaml.Node]]:
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        key = f"{prefix}{name.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def text_of(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return " ".join(text_of(item) for item in node.value)
    text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    default = re.fullmatch(r"\$\{oc\.env:\w+,\s*(.*)\}", text)
    return default[1] if default else UNKNOWN if "${" in text else text


def of_yaml(path: Path, text: str) -> Launch:
    root = composed(path, text)
    given = {plain(key): Given(text_of(node), node.start_mark.line + 1, path) for key, node in leaves(root)}
    keys = set(given)
    if any(key.startswith(("actor.", "algorithm.")) for key in keys):
        launch = Launch(path, "verl", 1, "Hydra configuration", given)
        others = [word for word in launch.given.pop("defaults", Given("", 1, path)).text.split() if word not in SHIPPED]
        if others:
            launch.is_open = True
            launch.gaps.append((1, f"what {', '.join(others)} in `defaults` sets is not known"))
        return launch
    if "rlhf_type" in keys:
        per_node = given.get("ENV.NPROC_PER_NODE", Given("1", 1, path)).text
        return Launch(path, "ms-swift", 1, "swift rlhf", given, int(per_node) if per_node.isdecimal() else None)
    if keys & (GRPO_ONLY | {"per_device_train_batch_size"}) and keys <= TABLES["trl"].known | {"num_processes"} | keys:
        return Launch(path, "trl", 1, "trl grpo --config", given)
    raise UsageError(
        f"{path}: expected settings of verl (actor_rollout_ref), ms-swift (rlhf_type) or TRL's GRPOConfig, got "
        f"{', '.join(sorted(keys)[:3]) or 'nothing'}: name another file"
    )


def of_python(path: Path, text: str) -> Launch:
    """The arguments of the file's GRPOConfig(...), where they are literals or names of literals."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: expected Python, got {error.msg}: mend it") from None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("GRPOConfig")]
    if not calls:
        raise UsageError(f"{path}: expected a call GRPOConfig(...), found none: name the file or the command that has it")
    constants: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            constants[name] = UNKNOWN if name in constants else literal(node.value, {})
    launch = Launch(path, "trl", calls[0].lineno, "GRPOConfig(...)")
    for keyword in calls[0].keywords:
        if keyword.arg is None:
            launch.is_open = True
            launch.gaps.append((keyword.value.lineno, "arguments passed with ** are not known"))
        else:
            launch.given[keyword.arg] = Given(literal(keyword.value, constants), keyword.value.lineno, path)
    return launch


def literal(node: ast.expr, constants: dict[str, str]) -> str:
    """The text of a literal or of a name that stands for one; else UNKNOWN."""
    if isinstance(node, ast.Name):
        return constants.get(node.id, UNKNOWN)
    try:
        return str(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError):
        return UNKNOWN
