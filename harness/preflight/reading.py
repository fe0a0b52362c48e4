"""A launch as its file gives it: which library, which of its keys, with what texts, on which lines. Nothing is run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from math import prod
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError, first_line
from harness.preflight.shell import CONTINUED, UNKNOWN, Command, Shell, Word

HYDRA = re.compile(r"\+{0,2}([a-z_][\w./@-]*)=(.*)", re.S)
POLICY = re.compile(r"\+{0,2}(actor_rollout_ref|algorithm)\.\S+=.*", re.S)
SHIPPED = {"ppo_trainer", "ppo_megatron_trainer", "dapo_trainer", "dapo_megatron_trainer", "_self_"}
GRPO_ONLY = {"num_generations", "num_iterations", "steps_per_generation", "max_completion_length", "reward_funcs"}
TRAINING = {"config", "learning_rate", "per_device_train_batch_size", "loss_type", "beta"}
WORD = r"[^\s=]*"  # of a path or module: what has an equals sign is an argument
MODULE = r"(?:-m|--module) "
OTHERS = "sft|pt|dpo|kto|reward|rloo|infer|eval|sample|rollout|deploy|export|vllm-serve"
PROGRAM = re.compile(  # of each library, as a command names it; the other ones train nothing of this kind
    rf"(?<!\S)(?:(?P<other>({MODULE}|{WORD}\.)main_(generation|eval)\w*|({WORD}[./])?main_(generation|eval)\w*\.py)"
    rf"|(?P<others>({WORD}/)?(trl|swift|megatron) ({OTHERS}))"
    rf"|(?P<verl>({MODULE}|{WORD}\.)main_(ppo|dapo)|({WORD}[./])?main_(ppo|dapo)\.py)"
    rf"|(?P<megatron>({WORD}/)?megatron rlhf|{WORD}cli[./]_megatron[./]rlhf(\.py)?)"
    rf"|(?P<swift>({WORD}/)?swift rlhf|{WORD}cli[./]rlhf(\.py)?)"
    rf"|(?P<trl>({WORD}/)?trl grpo|{MODULE}trl\.scripts\.grpo))(?!\S)"
)
STARTER = rf"(\S*/)?(python[\d.]*|torchrun|accelerate|deepspeed|uv)|\S*{UNKNOWN}\S*"
OWN = re.compile(
    rf"(^|(?<!\S)({STARTER}) (.*? )??)({MODULE}(?!torch\.|accelerate\.|deepspeed)\S+|(?<!\S){WORD}\.py)(?!\S)"
)
RLHF_TYPE = re.compile(r"--rlhf[_-]type[ =](\S+)")
SETTINGS = (".yaml", ".yml", ".json")
MOST_ALIASES = 16  # in a YAML file: few of them can stand for more text than any memory holds


@dataclass(frozen=True)
class Given:
    """A key's text, where UNKNOWN is what only the running script knows, and the key as it is written."""

    text: str
    line: int
    path: Path
    name: str
    is_alone: bool = False  # a flag without a value


@dataclass
class Launch:
    """`processes` is None where the file does not say; `unread` has a finding's code, its line and its words."""

    path: Path
    library: str
    line: int
    program: str
    given: dict[str, Given] = field(default_factory=dict)
    processes: int | None = None
    unread: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    is_open: bool = False  # something that may set more keys was not read, so that no default is sure

    @property
    def is_trl_command(self) -> bool:
        return bool(re.search(r"(^|/)trl grpo$", self.program))

    def give(self, name: str, text: str, line: int, is_alone: bool = False) -> None:
        self.given[plain(name).lstrip("-")] = Given(text.replace(CONTINUED, ""), line, self.path, name, is_alone)

    def miss(self, line: int, text: str, is_open: bool = False) -> None:
        self.unread.append(("gap", line, {"text": text.replace(UNKNOWN, "...")}))
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
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a text file, got {first_line(error)}: name another") from None


def of_shell(path: Path, text: str) -> Launch:
    try:
        commands = list(Shell(text.replace("\r\n", "\n").replace("\r", " ")).commands())
    except ValueError as error:
        raise UsageError(f"{path}:{error}") from None
    starts = [(number, start) for number, command in enumerate(commands) if (start := start_of(command.words))]
    found = [  # a program in quotes that has no argument is a name
        (number, start)
        for number, start in starts
        if commands[number].nesting == 0 or start[2] < len(commands[number].words) - 1
    ]
    if not found:
        file = re.compile(rf"([^\s{UNKNOWN}]+|[/.~][^\n;&|{UNKNOWN}]+)\.(py|sh)")
        texts = [word.text for command in commands for word in command.words]
        first = next((text for text in texts if file.fullmatch(text) and text != path.name), None)
        raise UsageError(
            f"{path}: expected a launch of verl (python3 -m verl.trainer.main_ppo key=value), TRL (trl grpo --key "
            "value) or ms-swift (swift rlhf --rlhf_type grpo --key value), got "
            f"{f'one that starts {first}: name that file' if first else 'none: name a file that has one'}"
        )
    number, (library, program, at) = found[0]
    command = commands[number]
    launch = Launch(path, library, command.words[0].line, program)
    if "\r" in text:
        launch.unread.append(("carriage_returns", launch.line, {}))
    launch.processes = processes_of(launch, command, at)
    (take_hydra if library == "verl" else take_flags)(launch, command.words[at + 1 :])
    quoted = len([*takewhile(lambda one: one.nesting > command.nesting, commands[number + 1 :])])  # in its arguments
    rest = [one for one in commands[number + 1 :] if one.nesting == command.nesting]
    behind = takewhile(lambda one: one.words[0].text.startswith("--") or HYDRA.match(one.words[0].text), rest)
    if lost := [word for one in behind for word in one.words]:
        launch.unread.append(("cut_off", lost[0].line, {"word": lost[0].text, "count": len(lost)}))
    for other in [other for other, _ in found if other > number + quoted][:1]:
        if commands[other].words[0] not in lost:
            launch.miss(commands[other].words[0].line, "another launch in the same file")
    return launch


def start_of(words: list[Word]) -> tuple[str, str, int] | None:
    """The library whose training of this kind the command starts, its program, and where that ends in the words."""
    line = " ".join(re.sub(r"\s", "_", word.text) for word in words)
    if words[0].text in ("echo", "printf"):
        return None

    def place(start: int, end: int) -> tuple[str, int]:
        at = line.count(" ", 0, end)
        program = " ".join(word.text for word in words[line.count(" ", 0, start) : at + 1])
        return re.sub(f"^{MODULE}", "", program), at

    own = OWN.search(line)
    for found in PROGRAM.finditer(line):
        library = next(name for name, text in found.groupdict().items() if text).replace("swift", "ms-swift")
        is_swifts, rest = library in ("ms-swift", "megatron"), line[found.end() :]
        is_behind = own and own.end() <= found.start() and not (is_swifts and RLHF_TYPE.search(rest))
        if is_behind and re.search(rf"(^| )(?!{MODULE})--?\w[^ =]* $", line[: found.start()]):
            continue  # the value of an option of another program
        return (library, *place(*found.span())) if (is_grpo(rest) if is_swifts else library[:5] != "other") else None
    program, at = place(*own.span(own.lastindex or 0)) if own else (words[0].text, 0)
    if any(POLICY.fullmatch(word.text) for word in words):
        return "verl", program, at
    flags = {word.text[2:].partition("=")[0].replace("-", "_") for word in words if word.text.startswith("--")}
    return ("trl", program, at) if own and flags & (GRPO_ONLY | TRAINING if "grpo" in program else GRPO_ONLY) else None


def is_grpo(arguments: str) -> bool:
    """Whether swift's arguments name GRPO, or only a file that may name it."""
    named = RLHF_TYPE.search(arguments)
    return named[1] in ("grpo", UNKNOWN) if named else bool(re.search(r"\.(ya?ml|json)\b", arguments))


def take_hydra(launch: Launch, words: list[Word]) -> None:
    options: dict[str, str] = {}
    for word, after in zip(words, [*words, Word("", 0)][1:], strict=True):
        if match := re.fullmatch(r"--config[-_](path|name)(=.*)?", word.text, re.S):
            options[match[1]] = match[2][1:] if match[2] else after.text
    name = options.get("name", "ppo_trainer").removesuffix(".yaml")
    if name not in SHIPPED:
        take_file(launch, f"{options.get('path', 'config')}/{name}.yaml", launch.line)
    for word in words:
        if match := HYDRA.fullmatch(word.text):
            launch.give(match[1], match[2].strip("'\""), word.line)
        elif word.text.strip() and not word.text.startswith("-") and word.text not in options.values():
            launch.miss(word.line, said(word))


def take_flags(launch: Launch, words: list[Word]) -> None:
    """--key value ..., --key=value and --key alone, which is true; behind a file of settings, which they override."""
    values: dict[str, tuple[int, list[str]]] = {}
    key = ""
    for word in words:
        if word.text == "--":
            key = ""
        elif word.text.startswith("--"):
            key, equals, value = word.text[2:].partition("=")
            key = key.replace("-", "_")
            values.pop(key, None)  # the last one holds
            values[key] = (word.line, [value] if equals else [])
        elif key and (word.text != UNKNOWN or not values[key][1]):
            values[key][1].append(word.text)
        elif word.text.endswith(SETTINGS):
            take_file(launch, word.text, word.line)
        elif word.text.strip():
            launch.miss(word.line, said(word))
    if launch.library in ("trl", "megatron") and "config" in values:
        take_file(launch, " ".join(values["config"][1]), values["config"][0])
    for key, (line, texts) in values.items():
        launch.give(f"--{key}", " ".join(texts) if texts else "true", line, is_alone=not texts)


def said(word: Word) -> str:
    return "arguments that only the running script knows" if word.text == UNKNOWN else word.text


def take_file(launch: Launch, name: str, line: int) -> None:
    """The keys of a YAML file, found as the launch names it, beside the launch or in the folders above it."""
    tail = name.rpartition(UNKNOWN)[2]
    places = [Path(tail), *(above / tail.lstrip("./") for above in launch.path.absolute().parents)]
    if found := next((place for place in places if place.is_file()), None):
        launch.given |= settings(found, text_in(found))
    else:
        launch.miss(line, f"{name}, which was not found and may set any key", is_open=True)


def processes_of(launch: Launch, command: Command, at: int) -> int | None:
    """How many processes train, where the command or its environment says so."""
    words = command.words if launch.is_trl_command else command.words[:at]
    pairs = re.findall(r"--([\w-]+)[ =](\S+)", " ".join(word.text for word in words))
    options: dict[str, str] = {name.replace("-", "_"): value for name, value in pairs}
    if launch.library in ("ms-swift", "megatron") and not options.keys() & {"nproc_per_node", "num_processes"}:
        options = {"nproc_per_node": command.variables.get("NPROC_PER_NODE", "1")}
        options |= {"nnodes": command.variables.get("NNODES", "1")}
    per_node = options.get("num_processes", options.get("nproc_per_node", options.get("num_gpus", UNKNOWN)))
    nodes = "1" if "num_processes" in options else options.get("nnodes", options.get("num_nodes", "1"))
    numbers = [int(text) for text in (per_node, nodes) if re.fullmatch(r"-?\d+", text)]
    return prod(numbers) if len(numbers) == 2 else None


def plain(key: str) -> str:
    """The key without the prefix of verl's policy keys, and the overlong buffer wherever a version of verl has it."""
    return re.sub(r"^reward.*\.overlong_buffer(_cfg)?\.", "overlong_buffer.", key.removeprefix("actor_rollout_ref."))


def settings(path: Path, text: str) -> dict[str, Given]:
    """What a YAML document sets, by dotted key. No object is built from it. Raises UsageError."""
    try:
        if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)) > MOST_ALIASES:
            raise yaml.YAMLError(f"more than {MOST_ALIASES} aliases")
        read = list(leaves(yaml.compose(text, Loader=yaml.SafeLoader)))
        return {plain(key): Given(text_of(node), node.start_mark.line + 1, path, key) for key, node in read}
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: expected YAML, got {' '.join(str(error).split())}: mend it") from None


def leaves(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, yaml.Node]]:
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        key = f"{prefix}{name.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from leaves(value, prefix if name.value == "<<" else f"{key}.")
        else:
            yield key, value


def text_of(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return " ".join(text_of(item) for item in node.value)
    return UNKNOWN if "${" in str(node.value) else str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def of_yaml(path: Path, text: str) -> Launch:
    given = settings(path, text)
    if any(key.startswith(("actor.", "algorithm.")) for key in given):
        launch = Launch(path, "verl", 1, "Hydra configuration", given)
        bases = given.pop("defaults", Given("", 1, path, ""))
        if others := set(bases.text.split()) - SHIPPED:
            launch.miss(bases.line, f"{', '.join(sorted(others))} in `defaults`, which may set any key", is_open=True)
        return launch
    if "rlhf_type" in given:
        library, program = ("megatron", "megatron rlhf") if "global_batch_size" in given else ("ms-swift", "swift rlhf")
        per_node = given["ENV.NPROC_PER_NODE"].text if "ENV.NPROC_PER_NODE" in given else UNKNOWN
        return Launch(path, library, 1, program, given, int(per_node) if per_node.isdecimal() else None)
    if given.keys() & GRPO_ONLY:
        return Launch(path, "trl", 1, "trl grpo --config", given)
    raise UsageError(
        f"{path}: expected settings of verl (actor_rollout_ref), ms-swift (rlhf_type) or TRL's GRPOConfig, got "
        f"{', '.join(sorted(given)[:3]) or 'nothing'}: name another file"
    )
