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
    r"[ \t\r]+|\\\r?\n|#[^\n]*|<<-?\s*['\"]?(?P<heredoc>\w+)['\"]?|(?P<redirect>[\d&]?>>?(?P<copy>&[\d-])?|<+)"
    r"|(?P<end>\n|;+|&&|\|\||[|&()])"
)
PIECE = re.compile(r"'(?P<single>[^']*)'|\\(?P<escaped>.)|(?P<double>\")|(?P<plain>[^\s'\"\\$`;&|()<>]+)", re.S)
IN_DOUBLE = re.compile(r"\\(?P<escaped>[\"\\$`\n])|(?P<plain>\\|[^\"\\$`]+)", re.S)
PARAMETER = re.compile(r"(\w+|[@*])(\[[^]]*\])?(:?[-=+?])?", re.S)
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
                self.at = re.compile(r"[ \t]*").match(self.text, self.at).end()  # type: ignore[union-attr]
                self.word()
            elif token["end"] == "(" and words and ASSIGNMENT.fullmatch(words[-1].text):
                self.array(words.pop().text)
            elif token["end"] and (token["end"] == "\n" or not heredocs):
                for tag in heredocs:
                    body = re.compile(rf"^\s*{tag}\s*$", re.M).search(self.text, self.at)
                    self.at = body.end() if body else len(self.text)
                break
        return words

    def array(self, head: str) -> None:
        """Keep the elements of name=( ... ) or name+=( ... )."""
        name = head.rstrip("+=")
        elements = self.arrays.get(name, []) if head.endswith("+=") else []
        while self.at < len(self.text) and self.text[self.at] != ")":
            token = TOKEN.match(self.text, self.at)
            if token is None:
                elements = elements + self.word()
            else:
                self.at = token.end()
        self.at += 1
        self.arrays[name] = elements

    def word(self) -> list[Word]:
        """One word, or as many as an array or an unquoted variable in it expands to."""
        line, parts, is_quoted = self.text.count("\n", 0, self.at) + 1, [""], False
        while self.at < len(self.text):
            piece = PIECE.match(self.text, self.at)
            if piece is None and self.text[self.at] not in "$`":
                break
            if piece is None or piece["double"]:
                value = self.expansion() if piece is None else self.double()
                if isinstance(value, list) and parts == [""]:
                    return value
                text = " ".join(word.text for word in value) if isinstance(value, list) else value
                first, *more = [text] if piece else re.split(r"\s+", text)
                parts[-1] += first
                parts += more
            else:
                self.at = piece.end()
                parts[-1] += piece["single"] or piece["plain"] or (piece["escaped"] or "").replace("\n", "")
            is_quoted |= piece is not None and piece["plain"] is None
        self.at += self.at < len(self.text) and TOKEN.match(self.text, self.at) is None  # what nothing here explains
        return [Word(part, line) for part in parts if part or is_quoted]

    def double(self) -> str | list[Word]:
        """What stands in double quotes; words if it is nothing but an array."""
        text, words = "", None
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != '"':
            piece = IN_DOUBLE.match(self.text, self.at)
            if piece is None:
                value = self.expansion()
                words = value if isinstance(value, list) and not text else None
                text += " ".join(word.text for word in value) if isinstance(value, list) else value
            else:
                self.at, words = piece.end(), None
                text += piece["plain"] or piece["escaped"].replace("\n", "")
        self.at += 1
        return text if words is None else words

    def expansion(self) -> str | list[Word]:
        """The value at a dollar sign or backquote."""
        rest = self.text[self.at + 1 : self.at + 3]
        if self.text[self.at] == "`":
            self.at = (self.text.find("`", self.at + 1) + 1) or len(self.text)
            return UNKNOWN
        if rest[:1] in ("(", "{"):
            body = self.enclosed()
            return self.parameter(body) if rest[0] == "{" else self.arithmetic(body) if rest == "((" else UNKNOWN
        name = re.compile(r"\w+|[@*#?$!]").match(self.text, self.at + 1)
        self.at = name.end() if name else self.at + 1
        if name is None:
            return "$"
        return "" if name[0] in "@*" else self.variables.get(name[0], UNKNOWN)

    def enclosed(self) -> str:
        """What stands between the bracket behind the dollar sign and the one that closes it."""
        start, depth = self.at + 2, 0
        for self.at in range(self.at + 1, len(self.text)):
            depth += (self.text[self.at] in "({") - (self.text[self.at] in ")}")
            if not depth:
                break
        self.at += 1
        return self.text[start : self.at - 1]

    def parameter(self, body: str) -> str | list[Word]:
        """The value of ${body}."""
        match = PARAMETER.match(body)
        if match is None or (match.end() < len(body) and not match[3]):
            return UNKNOWN  # lengths, substrings, replacements
        if match[2] in ("[@]", "[*]"):
            return self.arrays.get(match[1], [])
        value = self.variables.get(match[1])
        if match[3] and match[3][-1] in "-=" and not value:
            nested = Shell(body[match.end() :], self.variables, self.arrays)
            value = " ".join(word.text for word in nested.words())
            if match[3][-1] == "=":
                self.variables[match[1]] = value
        return "" if match[1] in "@*" else UNKNOWN if value is None else value

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
