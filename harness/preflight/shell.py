"""The commands of a shell script, as words with their lines; nothing is run.

Variables, arrays, defaults and integer arithmetic are expanded. What only a running shell knows (command substitution,
positional parameters, the environment, a variable that a condition decides) is UNKNOWN.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

CONTINUED = "\\\n"  # stays in quotes, so that a script in them keeps its lines
UNKNOWN = "\0"  # stands in a text for what is not known before the script runs
TOKEN = re.compile(
    r"[ \t]+|\\\n|#[^\n]*|<<-?\s*['\"]?(?P<heredoc>\w+)['\"]?|(?P<redirect>[\d&]?>>?(?P<copy>&[\d-])?|<+)[ \t]*"
    r"|(?P<end>\n|;+|&&|\|\||[|&()])"
)
IN_BRACKETS, IN_BRACES = r"[^()]*", r"[^{}]*"
for _ in range(6):  # brackets within brackets
    IN_BRACKETS = rf"[^()]*(?:\({IN_BRACKETS}\)[^()]*)*"
    IN_BRACES = rf"[^{{}}]*(?:\{{{IN_BRACES}\}}[^{{}}]*)*"
EXPANSION = rf"\$\{{{IN_BRACES}\}}|\$\({IN_BRACKETS}\)|`[^`]*`|\$\w+|\$[@*#?$!]"
PIECE = re.compile(
    rf"'(?P<single>[^']*)'|\"(?P<double>(?:{EXPANSION}|\\.|[^\"\\])*+)\"|\\(?P<escaped>.)|(?P<expansion>{EXPANSION})"
    r"|(?P<open>['\"`]|\$[({])|(?P<plain>[^\s'\"\\$`;&|()<>]+|.)",
    re.S,
)
IN_DOUBLE = re.compile(rf"\\(?P<escaped>[\"\\$`\n])|(?P<expansion>{EXPANSION})", re.S)
PARAMETER = re.compile(
    r"\$\{(?P<name>\w+|[@*])(?P<all>\[[@*]\])?(?P<default>:?[-=](?P<text>.*))?\}|\$(?P<bare>\w+|[@*])", re.S
)
ASSIGNMENT = re.compile(r"(\w+)(\+?)=")
OPENING, CLOSING = {"if", "for", "while", "until", "case", "select"}, {"fi", "done", "esac"}
SKIPPED = {"then", "else", "elif", "do", "{", "}", "!", "time", "export", "local", "readonly", "declare"}
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class Word:
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A simple command: its words, the variables that are set where it runs, and within how many quotes it stands."""

    words: list[Word]
    variables: dict[str, str]
    nesting: int


@dataclass
class Shell:
    """Reads a script from left to right and keeps what its variables hold."""

    text: str
    variables: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, list[Word]] = field(default_factory=dict)
    at: int = 0
    depth: int = 0  # of conditions and loops
    nesting: int = 0  # of quoted scripts

    def commands(self) -> Iterator[Command]:
        """Every simple command in the order of the script, those of branches, functions and quoted scripts included.

        Raises ValueError, with the line, for a quote or bracket that is not closed.
        """
        while self.at < len(self.text):
            words = self.words()
            while words and words[0].text in OPENING | CLOSING | SKIPPED:
                head = words.pop(0).text
                self.depth += (head in OPENING) - (head in CLOSING)
                if head in ("for", "select"):
                    self.variables |= {word.text: UNKNOWN for word in words[:1]}
                    words = []
            own: dict[str, str] = {}
            while words and (match := ASSIGNMENT.match(words[0].text)):
                before = self.variables.get(match[1], "") if match[2] else ""
                own[match[1]] = before + words.pop(0).text[match.end() :]
            if words:
                yield Command(words, self.variables | own, self.nesting)
                for word in words if words[0].text not in ("echo", "printf") else ():
                    if re.search(r"^[^.]*\s|^[^=]*\s", word.text):  # as in `bash -c "..."`, on its own lines
                        inner = Shell("\n" * (word.line - 1) + word.text, nesting=self.nesting + 1)
                        with suppress(ValueError):  # most such words are no scripts
                            yield from inner.commands()
                continue
            for name, value in own.items():  # a second value under a condition: which one holds is not known
                is_sure = not self.depth or self.variables.get(name, value) == value
                self.variables[name] = value if is_sure else UNKNOWN

    def words(self, closing: str = "") -> list[Word]:
        """The words up to the end of one command or to `closing`, without redirections and here-documents."""
        words: list[Word] = []
        heredocs: list[str] = []
        while self.at < len(self.text):
            token = TOKEN.match(self.text, self.at)
            if token is None:
                words += self.word()
                continue
            self.at = token.end()
            if token["heredoc"]:
                heredocs.append(token["heredoc"])
            elif token["redirect"] and not token["copy"]:
                self.word()
            elif token["end"] == "(" and words and (match := ASSIGNMENT.fullmatch(words[-1].text)):
                line, elements = words.pop().line, self.words(closing=")")
                before = self.arrays.get(match[1], []) if match[2] else []
                self.arrays[match[1]] = before + ([Word(UNKNOWN, line)] if self.depth else elements)
            elif token["end"] == closing or (token["end"] == "\n" and heredocs):
                for tag in heredocs:
                    body = re.compile(rf"^\s*{tag}\s*$", re.M).search(self.text, self.at)
                    self.at = body.end() if body else len(self.text)
                break
            elif token["end"] and not heredocs and not closing:
                break
        return words

    def word(self) -> list[Word]:
        """One word, or as many as an array or an unquoted variable in it expands to."""
        line, parts, is_quoted = self.text.count("\n", 0, self.at) + 1, [""], False
        while piece := PIECE.match(self.text, self.at):
            if piece["plain"] and piece["plain"][0] in " \t\r\n;&|()<>":
                break
            if piece["open"]:
                raise ValueError(f"{line}: expected shell, got {piece['open']} that nothing closes: close it")
            self.at = piece.end()
            is_quoted |= piece["plain"] is None and piece["expansion"] is None
            array = PARAMETER.fullmatch(piece["expansion"] or piece["double"] or "")
            if array and array["all"] and parts == [""] and not (piece["double"] and "*" in array["all"]):
                return self.arrays.get(array["name"], [Word(UNKNOWN, line)])
            if piece["expansion"]:
                value = self.value(piece["expansion"]).replace(CONTINUED, "")
                first, *more = [value] if ASSIGNMENT.match(parts[0]) else re.split(r"\s+", value)
                parts = [*parts[:-1], parts[-1] + first, *more]
            elif piece["double"] is not None:
                parts[-1] += IN_DOUBLE.sub(self.in_double, piece["double"])
            else:
                parts[-1] += piece["single"] or piece["plain"] or (piece["escaped"] or "").replace("\n", "")
        return [Word(part, line) for part in parts if part or is_quoted]

    def in_double(self, match: re.Match[str]) -> str:
        return self.value(match["expansion"]) if match["expansion"] else match["escaped"].replace("\n", CONTINUED)

    def value(self, expansion: str) -> str:
        """What a dollar sign or backquotes stand for."""
        if expansion.startswith("$(("):
            body = re.sub(
                r"\$?\{?([A-Za-z_]\w*)\}?", lambda name: self.variables.get(name[1], UNKNOWN), expansion[3:-2]
            )
            number = calculated(body.replace("/", "//"))
            return str(number) if isinstance(number, int) else UNKNOWN
        match = PARAMETER.fullmatch(expansion)
        if match is None:  # commands, lengths, substrings, replacements
            return UNKNOWN
        name = match["name"] or match["bare"]
        if match["all"]:
            return " ".join(word.text for word in self.arrays.get(name, [Word(UNKNOWN, 0)]))
        if match["default"] and not self.variables.get(name):
            return " ".join(word.text for word in Shell(match["text"], self.variables, self.arrays).words())
        return "" if name in "@*" else self.variables.get(name, UNKNOWN)


def calculated(expression: str, names: Mapping[str, ast.expr | None] = MappingProxyType({})) -> Any:
    """What a Python expression of literals, sums, products and names writes out; UNKNOWN for any other."""

    def folded(node: ast.expr | None) -> Any:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](folded(node.left), folded(node.right))
        return folded(names[node.id]) if isinstance(node, ast.Name) else ast.literal_eval(node or "")

    try:
        return folded(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
        return UNKNOWN
