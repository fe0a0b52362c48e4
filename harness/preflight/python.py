"""TRL's settings in a Python file: GRPOConfig(...), what is set on it afterwards, and what its trainer is given."""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import UsageError
from harness.preflight.reading import Launch
from harness.preflight.shell import UNKNOWN, calculated

BLOCKS = (ast.If, ast.For, ast.While, ast.Try, ast.Match)
TRAINER = {"model": "model_name_or_path", "reward_funcs": "reward_funcs", "args": "", "train_dataset": "dataset_name"}
Names = Mapping[str, ast.expr | None]  # what a name stands for; None where that is not known


def of_python(path: Path, text: str) -> Launch:
    """The first GRPOConfig(...), under any name that it is imported by. Raises UsageError."""
    try:
        nodes = sorted(ast.walk(ast.parse(text)), key=lambda node: getattr(node, "lineno", 0))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path}: expected Python, got {error}: mend it") from None
    calls, known = [*calls_of("GRPOConfig", nodes)], assigned(nodes)
    if not calls:
        raise UsageError(f"{path}: expected a call GRPOConfig(...), got none: name the file or the command that has it")
    call = calls[0]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    homes = {node.module or "." for node in imports if any(alias.name == "GRPOConfig" for alias in node.names)}
    others = sorted(home for home in homes if home.partition(".")[0] != "trl")  # whose class may take more keys
    launch = Launch(path, "trl", call.lineno, ".".join([*others[:1], "GRPOConfig(...)"]))
    for other in calls[1:2]:
        what = f"{len(calls) - 1} more GRPOConfig(...) from here on; all findings are for the one at line {call.lineno}"
        launch.miss(other.lineno, what)
    for value in (*call.args[1:], *(keyword.value for keyword in call.keywords if not keyword.arg)):
        launch.miss(value.lineno, f"{ast.unparse(value)[:40]}, which may set any argument", is_open=True)
    for keyword in call.keywords:
        if keyword.arg:
            launch.give(keyword.arg, str(calculated(ast.unparse(keyword.value), known)), keyword.value.lineno)
    for trainer in calls_of("GRPOTrainer", nodes) if not calls[1:] else ():
        given = dict(zip(TRAINER, trainer.args, strict=False)) | {one.arg or "": one.value for one in trainer.keywords}
        for name in given.keys() & TRAINER.keys() - {"args"}:
            launch.give(TRAINER[name], source_of(given[name], known), given[name].lineno)
        if "peft_config" in given:
            launch.give("use_peft", UNKNOWN, given["peft_config"].lineno)
    set_later(launch, calls, nodes, known)
    return launch


def calls_of(name: str, nodes: list[ast.AST]) -> Iterator[ast.Call]:
    """The calls of a class, under any name that the file imports it by."""
    aliases = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    names = {name, *(alias.asname for alias in aliases if alias.name == name)}
    for node in nodes:
        if isinstance(node, ast.Call) and {ast.unparse(node.func), ast.unparse(node.func).rpartition(".")[2]} & names:
            yield node


def assigned(nodes: list[ast.AST]) -> Names:
    """The names that the file binds: the expression of one that is bound once, and by a plain assignment."""
    bound = Counter(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    bound.update(node.arg for node in nodes if isinstance(node, ast.arg))
    values = {ast.unparse(target): node.value for target, node in assignments(nodes)}
    return {name: values.get(name) if count == 1 else None for name, count in bound.items()}


def assignments(nodes: list[ast.AST]) -> Iterator[tuple[ast.expr, ast.Assign | ast.AnnAssign | ast.AugAssign]]:
    for node in nodes:
        if isinstance(node, ast.Assign):
            yield node.targets[0], node
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            yield node.target, node


def source_of(node: ast.expr, known: Names) -> str:
    """The text of a literal, the name of a repository that a call loads, or else the expression's source."""
    if isinstance(node, ast.Name) and node.id in known:
        value = known[node.id]
        return source_of(value, {**known, node.id: None}) if value else UNKNOWN
    first = node.args[0] if isinstance(node, ast.Call) and node.args else node
    if isinstance(first, ast.Constant) and (first is node or "/" in str(first.value)):
        return str(first.value)
    return ast.unparse(node)


def set_later(launch: Launch, calls: list[ast.Call], nodes: list[ast.AST], known: Names) -> None:
    """Attributes that are set on the configuration; under a condition, or computed from what they were: not known."""
    call, pairs = calls[0], [*assignments(nodes)]
    holders = [ast.unparse(target) for target, node in pairs if node.value is call]
    blocks = [{*ast.walk(node)} for node in nodes if isinstance(node, BLOCKS)]
    for target, node in pairs:
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) in holders:
            is_decided = any(node in block and call not in block for block in blocks)
            is_sure = not calls[1:] and isinstance(node, ast.Assign) and not is_decided
            value = str(calculated(ast.unparse(node.value), known)) if is_sure and node.value else UNKNOWN
            launch.give(target.attr, value, node.lineno)
    setters = [one for one in calls_of("setattr", nodes) if one.args and ast.unparse(one.args[0]) in holders]
    others = [node for target, node in pairs if ast.unparse(target) in holders and node.value not in calls]
    for change in (*setters, *others):
        launch.miss(change.lineno, f"{ast.unparse(change)[:40]}, which may set any argument", is_open=True)
        for name in launch.given:
            launch.give(name, UNKNOWN, change.lineno)
