"""TRL's settings in a Python file: the arguments of GRPOConfig(...), read from the syntax tree and never run."""

import ast
from pathlib import Path

from harness.errors import UsageError
from harness.preflight.reading import Given, Launch
from harness.preflight.shell import UNKNOWN


def of_python(path: Path, text: str) -> Launch:
    """The first GRPOConfig(...), with arguments that are literals or names of literals. Raises UsageError."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path}: expected Python, got {error}: mend it") from None
    nodes = list(ast.walk(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    calls = [call for call in calls if ast.unparse(call.func).split(".")[-1] == "GRPOConfig"]
    if not calls:
        raise UsageError(f"{path}: expected a call GRPOConfig(...), got none: name the file or the command that has it")
    constants: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            constants[name] = UNKNOWN if name in constants else literal(node.value, {})
    launch = Launch(path, "trl", calls[0].lineno, "GRPOConfig(...)")
    for keyword in calls[0].keywords:
        if keyword.arg is None:
            launch.miss(keyword.value.lineno, "arguments passed with ** are not known", is_open=True)
        else:
            text = literal(keyword.value, constants)
            launch.given[keyword.arg] = Given(text, keyword.value.lineno, path, keyword.arg)
    return launch


def literal(node: ast.expr, constants: dict[str, str]) -> str:
    """The text of a literal or of a name that stands for one; else UNKNOWN."""
    if isinstance(node, ast.Name):
        return constants.get(node.id, UNKNOWN)
    try:
        return str(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError):
        return UNKNOWN
