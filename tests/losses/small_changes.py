"""Every small change of a module's code: one operator, number, bound, branch, argument or call at a time."""

import ast
import copy
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
TWINS = {"min": "max", "minimum": "maximum", "amin": "amax", "lower": "upper", "any": "all", "exp": "exp2"}
TWINS |= {twin: name for name, twin in TWINS.items()}
COMMUTATIVE = {"torch.maximum", "torch.minimum", "torch.promote_types", "computation_dtype"}


@dataclass(frozen=True)
class Mutant:
    """A module's code with one small change."""

    function: str
    line: int
    old: str
    new: str
    code: str


def changed_numbers(node: ast.Constant) -> Iterator[ast.expr]:
    """The constant a step away, doubled or negated; another truth; the twin of a name in quotes."""
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield from (ast.Constant(value + 1), ast.Constant(value - 1))
    elif isinstance(value, float):
        yield from (ast.Constant(2 * value if value else 1.0), ast.Constant(-value if value else -1.0))
    elif value in TWINS:
        yield ast.Constant(TWINS[value])


def changed_call(node: ast.Call) -> Iterator[ast.expr]:
    """The call left out, or its last two arguments swapped, or a keyword's twin."""
    if isinstance(node.func, ast.Attribute) and not (
        isinstance(node.func.value, ast.Name | ast.Attribute) and is_module(node.func.value)
    ):
        yield node.func.value
    starred = any(isinstance(argument, ast.Starred) for argument in node.args[-2:])
    if len(node.args) >= 2 and not starred and ast.unparse(node.func) not in COMMUTATIVE:
        yield ast.Call(node.func, [*node.args[:-2], node.args[-1], node.args[-2]], node.keywords)
    for index, keyword in enumerate(node.keywords):
        if keyword.arg in TWINS:
            twin = ast.keyword(TWINS[keyword.arg], keyword.value)
            yield ast.Call(node.func, node.args, [*node.keywords[:index], twin, *node.keywords[index + 1 :]])


def is_module(node: ast.expr) -> bool:
    """Whether a call's owner is a module and not a tensor."""
    return ast.unparse(node).split(".")[0] in {"torch", "math"}


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """Every change of this one node; what lies below it is changed in its own turn."""
    match node:
        case ast.Compare(left, operators, right):
            for index, operator in enumerate(operators):
                for other in COMPARISONS[type(operator)]:
                    yield ast.Compare(left, [*operators[:index], other(), *operators[index + 1 :]], right)
        case ast.BinOp(left, operator, right) if type(operator) in OPERATORS:
            yield ast.BinOp(left, OPERATORS[type(operator)](), right)
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.Constant():
            yield from changed_numbers(node)
        case ast.Attribute(value, name, context) if name in TWINS:
            yield ast.Attribute(value, TWINS[name], context)
        case ast.Attribute(attr="inf"):
            yield ast.UnaryOp(ast.USub(), node)
        case ast.Call():
            yield from changed_call(node)
        case _:
            yield from changed_order(node)


def changed_order(node: ast.AST) -> Iterator[ast.AST]:
    """The other branch, the other end of a slice, a tuple's first two entries swapped, a statement left out."""
    match node:
        case ast.IfExp(test, body, otherwise):
            yield ast.IfExp(test, otherwise, body)
        case ast.If(test, body, otherwise):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, otherwise)
        case ast.Slice(ast.Constant(value=1), None, step):
            yield ast.Slice(None, ast.Constant(-1), step)
        case ast.Tuple([first, second, *rest], ast.Load() as context):
            yield ast.Tuple([second, first, *rest], context)
        case ast.Expr(ast.Call()):
            yield ast.Pass()


def places(node: ast.AST, function: str = "") -> Iterator[tuple[str, ast.AST, str, int | None]]:
    """Where a node can be put in another's place: function, parent, field, index; types and docstrings left out."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "bases", "type_comment") or isinstance(node, ast.Import | ast.ImportFrom):
            continue
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if isinstance(child, ast.AST):
                own = isinstance(child, ast.FunctionDef | ast.ClassDef)
                name = f"{function}.{child.name}".lstrip(".") if own else function
                yield name, node, field, index if isinstance(value, list) else None
                yield from places(child, name)


def small_changes(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    plain = ast.unparse(tree)
    for function, parent, field, index in places(tree):
        slot = getattr(parent, field)
        original = slot if index is None else slot[index]
        for replacement in changed(original):
            put(parent, field, index, replacement)
            code = ast.unparse(ast.fix_missing_locations(copy.deepcopy(tree)))
            put(parent, field, index, original)
            if code != plain:
                old, new = (" ".join(lines) for lines in differing_lines(plain, code))
                yield Mutant(function, original.lineno, old, new, code)


def put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    """Put the node in its place."""
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def differing_lines(plain: str, code: str) -> tuple[list[str], list[str]]:
    """The lines of either text that the other has not."""
    lines = list(difflib.unified_diff(plain.splitlines(), code.splitlines(), n=0))[3:]
    old, new = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return old, new
