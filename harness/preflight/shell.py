"""The commands of a shell script, as words with their lines; nothing is run.

Variables, arrays, defaults and integer arithmetic are expanded. What only a running shell knows (command substitution,
positional parameters, the environment, a variable that a condition decides) is UNKNOWN.
"""

import ast
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

UNKNOWN = "\0"  # stands in a text for what is not known before the script runs
TOKEN = re.compile(
    r"[ \t\r]+|\\\r?\n|#[^\n]*|<<-?\s*['\"]?(?P<heredoc>\w+)['\"]?|(?P<redirect>[\d&]?>>?(?P<copy>&[\d-])?|<+)[ \t]*"
    r"|(?P<end>\n|;+|&&|\|\||[|&()])"
)
IN_BRACKETS = r"\((?:[^()]|\([^()]*\))*\)"
EXPANSION = rf"\$\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}}|\$\({IN_BRACKETS}\)|\${IN_BRACKETS}|`[^`]*`|\$\w+|\$[@*#?$!]"
PIECE = re.compile(
    rf"'(?P<single>[^']*)'|\"(?P<double>(?:{EXPANSION}|\\.|[^\"\\])*+)\"|\\(?P<escaped>.)|(?P<expansion>{EXPANSION})"
    r"|(?P<plain>[^\s'\"\\$`;&|()<>]+|.)",
    re.S,
)
IN_DOUBLE = re.compile(rf"\\(?P<escaped>[\"\\$`\n])|(?P<expansion>{EXPANSION})", re.S)
PARAMETER = re.compile(
    r"\$\{(?P<name>\w+|[@*])(?P<all>\[[@*]\])?(?::?(?P<default>[-=])(?P<text>.*))?\}|\$(?P<bare>\w+|[@*])", re.S
)
ASSIGNMENT = re.compile(r"(\w+)(\+?)=")
OPENING, CLOSING = {"if", "for", "while", "until", "case", "select"}, {"fi", "done", "esac"}
SKIPPED = {"then", "else", "elif", "do", "{", "}", "!", "time", "export", "local", "readonly", "declare"}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.floordiv}


@dataclass(frozen=True)
class Word:
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A simple command: its words, and the variables that are set where it runs."""

    words: list[Word]
    variables: dict[str, str]


@dataclass
class Shell:
    """Reads a script from left to right and keeps what its variables hold."""

    text: str
    variables: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, list[Word]] = field(default_factory=dict)
    at: int = 0
    depth: int = 0  # of conditions and loops

    def commands(self) -> Iterator[Command]:
        """Every simple command in the order of the script, those of branches and function bodies included."""
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
                yield Command(words, self.variables | own)
                continue
            for name, value in own.items():  # a second value under a condition: which one holds is not known
                is_sure = not self.depth or self.variables.get(name, value) == value
                self.variables[name] = value if is_sure else UNKNOWN

    def words(self) -> list[Word]:
        """The words up to the end of one command, without redirections and here-documents."""
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
                words.pop()
                self.arrays[match[1]] = (self.arrays.get(match[1], []) if match[2] else []) + self.elements()
            elif token["end"] and (token["end"] == "\n" or not heredocs):
                for tag in heredocs:
                    body = re.compile(rf"^\s*{tag}\s*$", re.M).search(self.text, self.at)
                    self.at = body.end() if body else len(self.text)
                break
        return words

    def elements(self) -> list[Word]:
        """The words of an array up to its closing bracket."""
        elements: list[Word] = []
        while self.at < len(self.text) and self.text[self.at] != ")":
            token = TOKEN.match(self.text, self.at)
            if token is None:
                elements += self.word()
            else:
                self.at = token.end()
        self.at += 1
        return elements

    def word(self) -> list[Word]:
        """One word, or as many as an array or an unquoted variable in it expands to."""
        line, parts, is_quoted = self.text.count("\n", 0, self.at) + 1, [""], False
        while piece := PIECE.match(self.text, self.at):
            if piece["plain"] and piece["plain"][0] in " \t\r\n;&|()<>":
                break
            self.at = piece.end()
            is_quoted |= piece["plain"] is None and piece["expansion"] is None
            array = PARAMETER.fullmatch(piece["expansion"] or piece["double"] or "")
            if array and array["all"] and parts == [""] and not (piece["double"] and "*" in array["all"]):
                return self.arrays.get(array["name"], [])
            if piece["expansion"]:
                value = self.value(piece["expansion"])
                first, *more = [value] if ASSIGNMENT.match(parts[0]) else re.split(r"\s+", value)
                parts = [*parts[:-1], parts[-1] + first, *more]
            elif piece["double"] is not None:
                parts[-1] += IN_DOUBLE.sub(self.in_double, piece["double"])
            else:
                parts[-1] += piece["single"] or piece["plain"] or (piece["escaped"] or "").replace("\n", "")
        return [Word(part, line) for part in parts if part or is_quoted]

    def in_double(self, match: re.Match[str]) -> str:
        return self.value(match["expansion"]) if match["expansion"] else match["escaped"].replace("\n", "")

    def value(self, expansion: str) -> str:
        """What a dollar sign or backquotes stand for."""
        if expansion.startswith("$(("):
            return self.arithmetic(expansion[3:-2])
        match = PARAMETER.fullmatch(expansion)
        if match is None:  # commands, lengths, substrings, replacements
            return UNKNOWN
        name = match["name"] or match["bare"]
        if match["all"]:
            return " ".join(word.text for word in self.arrays.get(name, []))
        if match["default"] and not self.variables.get(name):
            default = " ".join(word.text for word in Shell(match["text"], self.variables, self.arrays).words())
            if match["default"] == "=":
                self.variables[name] = default
            return default
        return "" if name in "@*" else self.variables.get(name, UNKNOWN)

    def arithmetic(self, body: str) -> str:
        """The integer that $((...)) gives."""
        text = re.sub(r"\$?\{?([A-Za-z_]\w*)\}?", lambda name: self.variables.get(name[1], UNKNOWN), body)
        try:
            return str(integer(ast.parse(text.strip(), mode="eval").body))
        except (SyntaxError, ValueError, KeyError, ZeroDivisionError):
            return UNKNOWN


def integer(node: ast.expr) -> int:
    """The value of an expression of integers. Raises ValueError or KeyError for any other."""
    if isinstance(node, ast.BinOp):
        return int(OPERATORS[type(node.op)](integer(node.left), integer(node.right)))
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    raise ValueError
