"""A launch as its file gives it: which library, which of its keys, with what texts, on which lines. Nothing is run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import yaml

from harness.errors import UsageError, first_line
from harness.preflight.shell import UNKNOWN, Command, Shell, Word

HYDRA = re.compile(r"(\+{0,2})([a-z_]\w*(?:\.\w+)+)=(.*)", re.S)
SHIPPED = {"ppo_trainer", "ppo_megatron_trainer", "dapo_trainer", "dapo_megatron_trainer", "_self_"}
GRPO_ONLY = {"num_generations", "num_iterations", "steps_per_generation"}
SETTINGS = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Given:
    """A key's text, where UNKNOWN is what only the running script knows, and the key as it is written."""

    text: str
    line: int
    path: Path
    name: str


@dataclass
class Launch:
    """`processes` is None where the file does not say; `gaps` are lines and sentences on what could not be read."""

    path: Path
    library: str
    line: int
    program: str
    given: dict[str, Given] = field(default_factory=dict)
    processes: int | None = None
    gaps: list[tuple[int, str]] = field(default_factory=list)
    is_open: bool = False  # something that may set more keys was not read, so that no default is sure
    cut_off: list[Word] = field(default_factory=list)  # arguments behind a comment or blank that ended the command

    def miss(self, line: int, text: str, is_open: bool = False) -> None:
        self.gaps.append((line, text))
        self.is_open |= is_open


def read_launch(path: Path, processes: int | None = None) -> Launch:
    """The launch in the file. Raises UsageError if the file cannot be read or has none."""
    text = text_in(path)
    if path.suffix == ".py":
        from harness.preflight.python import of_python

        launch = of_python(path, text)
    else:
        launch = of_yaml(path, text) if path.suffix in SETTINGS else of_shell(path, text)
    launch.processes = processes or launch.processes
    return launch


def text_in(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a text file, got {first_line(error)}: name another") from None


def of_shell(path: Path, text: str) -> Launch:
    commands = list(Shell(text).commands())
    found = [(number, library) for number, command in enumerate(commands) if (library := library_of(command))]
    if not found:
        raise UsageError(
            f"{path}: expected a launch of verl (python3 -m verl.trainer.main_ppo key=value), TRL (trl grpo --key "
            "value) or ms-swift (swift rlhf --rlhf_type grpo --key value), got none: name a file that has one"
        )
    (number, library), *others = found
    command = commands[number]
    launch = Launch(path, library, command.words[0].line, program_of(command.words))
    (take_hydra if library == "verl" else take_flags)(launch, command.words)
    launch.processes = processes_of(launch, command)
    rest = commands[number + 1 :]
    for following in takewhile(lambda one: one.words[0].text.startswith("--") or HYDRA.match(one.words[0].text), rest):
        launch.cut_off += following.words
    if others and commands[others[0][0]].words[0] not in launch.cut_off:
        launch.miss(commands[others[0][0]].words[0].line, "another launch in the same file is not read")
    return launch


def library_of(command: Command) -> str:
    """Which library's training of this kind the command starts; empty if none."""
    line = " ".join(word.text for word in command.words)
    if re.search(r"(^| )\+{0,2}(actor_rollout_ref|algorithm)\.\S+=", line):
        return "verl"
    if re.search(r"\brlhf(\.py)? .*(--rlhf_type[ =]grpo\b|\.ya?ml\b)", line):
        return "ms-swift"
    flags = {name.replace("-", "_") for name in re.findall(r" --([\w-]+)", line)}
    is_named = re.search(r"\btrl grpo\b|grpo\S*\.py .*--config\b", line)
    return "trl" if is_named or (".py " in line and flags & GRPO_ONLY) else ""


def program_of(words: list[Word]) -> str:
    """The command without its arguments, such as `python3 -m verl.trainer.main_ppo` or `swift rlhf`."""
    line = " ".join(word.text for word in words)
    patterns = (r"\S*python\S* -m \S*main\S*", r"\b(swift|megatron) rlhf\b", r"\btrl grpo\b", r"\S+\.py\b", r"\S+")
    return next(match[0] for pattern in patterns if (match := re.search(pattern, line)))


def take_hydra(launch: Launch, words: list[Word]) -> None:
    options = dict(re.findall(r"--config[-_](path|name)[ =](\S+)", " ".join(word.text for word in words)))
    name = options.get("name", "ppo_trainer").removesuffix(".yaml")
    if name not in SHIPPED:
        take_file(launch, f"{options.get('path', 'config')}/{name}.yaml", launch.line)
    for word in words:
        if match := HYDRA.fullmatch(word.text):
            launch.given[plain(match[2])] = Given(match[3].strip("'\""), word.line, launch.path, match[2])
        elif word.text == UNKNOWN and launch.given:
            launch.miss(word.line, "arguments in a variable that the script does not set are not known")


def take_flags(launch: Launch, words: list[Word]) -> None:
    """--key value ..., --key=value and --key alone, which is true; behind a file of settings, which they override."""
    programs = [number for number, word in enumerate(words) if re.fullmatch(r"grpo|rlhf|.*\.py", word.text)] or [0]
    values: dict[str, tuple[int, list[str]]] = {}
    key = ""
    for word in words[programs[0] + 1 :]:
        if word.text.startswith("--"):
            key, _, value = word.text[2:].partition("=")
            key = key.replace("-", "_")
            values[key] = (word.line, [value] if value else [])
        elif key and (word.text != UNKNOWN or not values[key][1]):
            values[key][1].append(word.text)
        elif word.text.endswith(SETTINGS):
            take_file(launch, word.text, word.line)
        elif word.text == UNKNOWN:
            launch.miss(word.line, "arguments in a variable that the script does not set are not known")
    if launch.library == "trl" and "config" in values:
        take_file(launch, " ".join(values["config"][1]), values["config"][0])
    for key, (line, texts) in values.items():
        launch.given[key] = Given(" ".join(texts) if texts else "true", line, launch.path, f"--{key}")


def take_file(launch: Launch, name: str, line: int) -> None:
    """The keys of a YAML file that the launch names, found as it is named, beside the launch or above it."""
    tail = name.rpartition(UNKNOWN)[2]
    places = [Path(tail), *(above / tail.lstrip("./") for above in launch.path.absolute().parents)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        launch.miss(line, f"{name.replace(UNKNOWN, '...')} was not found: what it sets is not known", is_open=True)
    else:
        launch.given |= settings(found, text_in(found))


def processes_of(launch: Launch, command: Command) -> int | None:
    """How many processes train, where the command or its environment says so."""
    pairs = re.findall(r"--([\w-]+)[ =](\S+)", " ".join(word.text for word in command.words))
    options: dict[str, str] = {name.replace("-", "_"): value for name, value in pairs}
    if launch.library == "ms-swift" and not options.keys() & {"nproc_per_node", "num_processes"}:
        options = {"nproc_per_node": command.variables.get("NPROC_PER_NODE", "1")}
        options |= {"nnodes": command.variables.get("NNODES", "1")}
    per_node = options.get("num_processes", options.get("nproc_per_node", options.get("num_gpus", UNKNOWN)))
    nodes = "1" if "num_processes" in options else options.get("nnodes", options.get("num_nodes", "1"))
    return int(per_node) * int(nodes) if per_node.isdecimal() and nodes.isdecimal() else None


def plain(key: str) -> str:
    """The key without the prefix of verl's policy keys, and the overlong buffer wherever a version of verl has it."""
    return re.sub(r"^reward.*\.overlong_buffer(_cfg)?\.", "overlong_buffer.", key.removeprefix("actor_rollout_ref."))


def settings(path: Path, text: str) -> dict[str, Given]:
    """What a YAML document sets, by dotted key. No object is built from it. Raises UsageError."""
    try:
        aliases = [event for event in yaml.parse(text, Loader=yaml.SafeLoader) if isinstance(event, yaml.AliasEvent)]
        root = None if aliases else yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: expected YAML, got {' '.join(str(error).split())}: mend it") from None
    if aliases:  # few of them can stand for more text than any memory holds
        raise UsageError(f"{path}: expected YAML without aliases, got *{aliases[0].anchor}: write its value out")
    return {plain(key): Given(text_of(node), node.start_mark.line + 1, path, key) for key, node in leaves(root)}


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
    given = settings(path, text)
    if any(key.startswith(("actor.", "algorithm.")) for key in given):
        launch = Launch(path, "verl", 1, "Hydra configuration", given)
        bases = given.pop("defaults", Given("", 1, path, ""))
        if others := set(bases.text.split()) - SHIPPED:
            launch.miss(bases.line, f"what {', '.join(sorted(others))} in `defaults` sets is not known", is_open=True)
        return launch
    if "rlhf_type" in given:
        program = "megatron rlhf" if "global_batch_size" in given else "swift rlhf"
        per_node = given["ENV.NPROC_PER_NODE"].text if "ENV.NPROC_PER_NODE" in given else "1"
        return Launch(path, "ms-swift", 1, program, given, int(per_node) if per_node.isdecimal() else None)
    if given.keys() & (GRPO_ONLY | {"per_device_train_batch_size"}):
        return Launch(path, "trl", 1, "trl grpo --config", given)
    raise UsageError(
        f"{path}: expected settings of verl (actor_rollout_ref), ms-swift (rlhf_type) or TRL's GRPOConfig, got "
        f"{', '.join(sorted(given)[:3]) or 'nothing'}: name another file"
    )
