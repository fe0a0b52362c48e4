"""TRL's settings in a Python file: GRPOConfig(...) and what is set on it afterwards, read and never run."""

import ast
from collections import Counter
from pathlib import Path

from harness.errors import UsageError
from harness.preflight.reading import Launch
from harness.preflight.shell import UNKNOWN, calculated

BLOCKS = (ast.If, ast.For, ast.While, ast.Try, ast.Match)


def of_python(path: Path, text: str) -> Launch:
    """The first GRPOConfig(...), under any name that it is imported by. Raises UsageError."""
    try:
        nodes = sorted(ast.walk(ast.parse(text)), key=lambda node: getattr(node, "lineno", 0))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path}: expected Python, got {error}: mend it") from None
    aliases = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    names = {alias.asname for alias in aliases if alias.name == "GRPOConfig"} | {"GRPOConfig"}
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    calls = [call for call in calls if call_name(call) in names or call_name(call).endswith(".GRPOConfig")]
    if not calls:
        raise UsageError(f"{path}: expected a call GRPOConfig(...), got none: name the file or the command that has it")
    call, known = calls[0], assigned(nodes)
    launch = Launch(path, "trl", call.lineno, "GRPOConfig(...)")
    if calls[1:]:
        what = f"{len(calls) - 1} more GRPOConfig(...) from here on; all findings are for the one at line {launch.line}"
        launch.miss(calls[1].lineno, what)
    for value in (*call.args[1:], *(keyword.value for keyword in call.keywords if not keyword.arg)):
        launch.miss(value.lineno, f"{ast.unparse(value)[:40]}, which may set any argument", is_open=True)
    for keyword in call.keywords:
        if keyword.arg:
            launch.give(keyword.arg, str(calculated(ast.unparse(keyword.value), known)), keyword.value.lineno)
    set_later(launch, calls, nodes, known)
    return launch


def call_name(call: ast.Call) -> str:
    return ast.unparse(call.func)


def assigned(nodes: list[ast.AST]) -> dict[str, ast.expr]:
    """The expressions of the names that the file binds once, and by a plain assignment."""
    bound = Counter(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    bound.update(node.arg for node in nodes if isinstance(node, ast.arg))
    pairs = [(node.targets[0], node.value) for node in nodes if isinstance(node, ast.Assign)]
    pairs += [(node.target, node.value) for node in nodes if isinstance(node, ast.AnnAssign) and node.value]
    return {target.id: value for target, value in pairs if isinstance(target, ast.Name) and bound[target.id] == 1}


def set_later(launch: Launch, calls: list[ast.Call], nodes: list[ast.AST], known: dict[str, ast.expr]) -> None:
    """Attributes that are set on the configuration; under a condition, or computed from what they were: not known."""
    pairs: list[tuple[ast.expr, ast.Assign | ast.AnnAssign | ast.AugAssign]] = []
    pairs += [(node.targets[0], node) for node in nodes if isinstance(node, ast.Assign)]
    pairs += [(node.target, node) for node in nodes if isinstance(node, ast.AnnAssign | ast.AugAssign)]
    call, is_alone = calls[0], len(calls) == 1
    holders = [ast.unparse(target) for target, node in pairs if node.value is call]
    blocks = [{*ast.walk(node)} for node in nodes if isinstance(node, BLOCKS)]
    for target, node in sorted(pairs, key=lambda pair: pair[1].lineno):
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) in holders:
            is_decided = any(node in block and call not in block for block in blocks)
            is_sure = is_alone and isinstance(node, ast.Assign) and not is_decided
            value = str(calculated(ast.unparse(node.value), known)) if is_sure and node.value else UNKNOWN
            launch.give(target.attr, value, node.lineno)
    setters = [node for node in nodes if isinstance(node, ast.Call) and call_name(node) == "setattr"]
    changes: list[ast.stmt | ast.expr] = [node for node in setters if ast.unparse(node.args[0]) in holders]
    changes += [node for target, node in pairs if ast.unparse(target) in holders and node.value not in calls]
    for change in changes:
        launch.miss(change.lineno, f"{ast.unparse(change)[:40]}, which may set any argument", is_open=True)
        for name in launch.given:
            launch.give(name, UNKNOWN, change.lineno)
