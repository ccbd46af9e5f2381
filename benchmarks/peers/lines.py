"""How many lines a user of a tool writes: what comments mark in a file.

::

    # user code            from here: counted for every way to use the tool
    # user code: taylor    from here: counted for those that have this label
    # end of user code     to here
    import tool  # user code          this line alone, with or without a label

Counted are lines with code, as ``ruff format`` breaks them at 120 columns; not blank lines, comments or docstrings.
Loading data, fine-tuning and the counter of multiply-adds are the same for everybody and stand elsewhere.
"""

import io
import tokenize
from collections.abc import Collection

from widthwise.errors import ConfigError

__all__ = ["count_lines"]

_BEGIN, _END = "# user code", "# end of user code"

_SILENT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING),
    tokenize.ENDMARKER,
}


def count_lines(source: str, labels: Collection[str] = ()) -> int:
    """Lines with code that the markers of a Python source name.

    Args:
        source: the whole file.
        labels: which labelled parts count, beside those without a label.

    Raises:
        ConfigError: the markers do not pair.
    """
    return len(_lines_with_code(source) & _marked(source, {"", *labels}))


def _marked(source: str, labels: Collection[str]) -> set[int]:
    """Numbers of the lines that the markers name."""
    found: set[int] = set()
    start, label = 0, ""
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        if text == _END:
            if not start:
                raise ConfigError(f"'{_END}' ends what '{_BEGIN}' began, but line {number} ends nothing.")
            found |= set(range(start, number)) if label in labels else set()
            start = 0
        elif text.startswith(_BEGIN):
            if start:
                raise ConfigError(f"'{_END}' must come before the next '{_BEGIN}', but line {number} begins another.")
            start, label = number, _label(text)
        elif _BEGIN in text and _label(text) in labels:
            found.add(number)
    if start:
        raise ConfigError(f"'{_BEGIN}' needs an '{_END}', but that of line {start} has none.")
    return found


def _label(text: str) -> str:
    return text.partition(_BEGIN)[2].removeprefix(":").strip()


def _lines_with_code(source: str) -> set[int]:
    """Numbers of the lines that hold a token of code; a string that stands alone is a docstring."""
    found: set[int] = set()
    statement: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SILENT:
            statement.append(token)
        elif token.type == tokenize.NEWLINE:
            if any(part.type != tokenize.STRING for part in statement):
                found |= {n for part in statement for n in range(part.start[0], part.end[0] + 1)}
            statement = []
    return found
