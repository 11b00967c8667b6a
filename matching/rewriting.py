"""Rewriting rules for words, written as regular expressions: applied to one word, or compiled and applied to many.

The regular expressions are a small kind: letters, classes, `.`, `?` and `{n}` behind a letter or class, alternatives,
`^` and `$`, and groups that look ahead or behind. `compile_rules` refuses anything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from string import ascii_lowercase
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from matching.errors import SchemaError
from matching.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

ANY_LENGTH: Final = 1 << 20
UNDOUBLE: Final = r"(.)\1+"  # the one expression that compares two letters
_LETTERS: Final = (1 << 26) - 1
_OUTSIDE: Final = 1 << 26  # before the first letter, and after the last
_METACHARACTERS: Final = re.compile(r"[^a-z]")


class Step(NamedTuple):
    """Replace every match of a pattern. groups: every match holds one of them, and they are quicker to look for."""

    pattern: str
    repl: str
    groups: tuple[str, ...]


class Rewrite:
    """A rule for one word: steps in order, for words of `least` to `most` letters, which a bounded rule must keep."""

    def __init__(self, *steps: Step, least: int = 0, most: int = ANY_LENGTH) -> None:
        self.steps = steps
        self.least, self.most = least, most
        self._subs = [
            None if not _METACHARACTERS.search(step.pattern) else re.compile(step.pattern).sub for step in steps
        ]

    def __call__(self, text: str) -> str:
        """Return the word rewritten."""
        if not self.least <= len(text) <= self.most:
            return text
        for step, sub in zip(self.steps, self._subs, strict=True):
            if sub is None:
                text = text.replace(step.pattern, step.repl)
                continue
            if not step.groups or any(letters in text for letters in step.groups):
                text = sub(step.repl, text)
        return text


def replace(pattern: str, repl: str, *groups: str) -> Rewrite:
    """Return a rule of one step."""
    return Rewrite(Step(pattern, repl, groups))


def replace_letters(*pairs: tuple[str, str]) -> Rewrite:
    """Return a rule that replaces letters by letters, pair after pair."""
    return Rewrite(*(Step(old, new, ()) for old, new in pairs))


def undouble() -> Rewrite:
    """Return the rule that makes equal letters in a row one."""
    return Rewrite(Step(UNDOUBLE, r"\1", ()))


# --- Compiled -------------------------------------------------------------------------------------------------------


class _Match(NamedTuple):
    """One way to match: a set of letters, as bits, for each place before, in and after what is replaced."""

    behind: tuple[int, ...]
    body: tuple[int, ...]
    ahead: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """Rules as tables for `rewrite_words`.

    steps: (n, 5) int64: first and last way to match, letters one of which must be there, least and most length; a step
    without ways is UNDOUBLE. ways: (m, 5) int64: first and last check, letters replaced, and two replacements, -1 for
    none. checks: (k, 2) int64: offset from the first letter replaced, letters that may stand there. growth: a word
    becomes at most this many times as long.
    """

    steps: NDArray[np.int64]
    ways: NDArray[np.int64]
    checks: NDArray[np.int64]
    growth: int

    def __call__(self, words: Texts) -> Texts:
        """Rewrite words of a to z. A word of which nothing would be left stays as it is."""
        from matching.import_kernels import rewrite_words  # noqa: PLC0415 - only an import needs it

        longest = int(np.diff(words.ends).max(initial=0))
        out = np.empty(self.growth * int(words.ends[-1] - words.ends[0]) + 1, dtype=np.uint8)
        ends = np.zeros(len(words) + 1, dtype=np.int64)
        rewrite_words(words.data, words.ends, self.steps, self.ways, self.checks, self.growth * longest + 1, out, ends)
        return Texts(out, ends)


def compile_rules(rules: Iterable[Rewrite]) -> CompiledRules:
    """Compile rules that follow each other. Raises SchemaError for an expression of another kind."""
    steps: list[tuple[int, ...]] = []
    ways: list[tuple[int, ...]] = []
    checks: list[tuple[int, int]] = []
    growth = 1
    for rule in rules:
        for step in rule.steps:
            first, starts, grown = len(ways), 0, 1
            for match in [] if step.pattern == UNDOUBLE else _Pattern(step.pattern).matches():
                before = len(checks)
                checks += enumerate((*match.body, *match.ahead))
                checks += ((-1 - place, letters) for place, letters in enumerate(reversed(match.behind)))
                replaced = [ord(letter) for letter in step.repl] + [-1, -1]
                ways.append((before, len(checks), len(match.body), replaced[0], replaced[1]))
                starts |= match.body[0]
                grown = max(grown, -(-len(step.repl) // len(match.body)))
            growth *= grown
            steps.append((first, len(ways), starts, rule.least, rule.most))
    return CompiledRules(_table(steps, 5), _table(ways, 5), _table(checks, 2), growth)


def _table(rows: Sequence[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(-1, width)


_Sequence = tuple[int, ...]


class _Pattern:
    """Reads a regular expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def matches(self) -> list[_Match]:
        """Return the ways to match, in the order in which `re` tries them."""
        found = []
        while True:
            found += self._one()
            if not self._takes("|"):
                break
        if self._at < len(self._text):
            raise self._unknown()
        return found

    def _unknown(self) -> SchemaError:
        return SchemaError(f"a rewriting rule holds {self._text[self._at :]!r}, which cannot be compiled")

    def _takes(self, text: str) -> bool:
        taken = self._text.startswith(text, self._at)
        self._at += len(text) * taken
        return taken

    def _one(self) -> list[_Match]:
        behind: list[_Sequence] = [()]
        body: list[_Sequence] = [()]
        ahead: list[_Sequence] = [()]
        while self._at < len(self._text) and self._text[self._at] != "|":
            if self._takes("(?<="):
                behind = _joined(behind, self._group())
            elif self._takes("(?<!"):
                behind = _joined(behind, self._none_of())
            elif self._takes("(?="):
                ahead = _joined(ahead, self._group())
            elif self._takes("(?!"):
                ahead = _joined(ahead, self._none_of())
            elif self._takes("^"):
                behind = _joined(behind, [(_OUTSIDE,)])
            elif self._takes("$"):
                ahead = _joined(ahead, [(_OUTSIDE,)])
            else:
                body = _joined(body, self._repeated())
        return [_Match(*parts) for parts in product(behind, body, ahead)]

    def _group(self) -> list[_Sequence]:
        """Read what a group looks for, to its closing bracket; alternatives of one place are one set."""
        found: list[_Sequence] = []
        here: list[_Sequence] = [()]
        while not self._takes(")"):
            if self._takes("|"):
                found, here = found + here, [()]
            elif self._takes("^") or self._takes("$"):
                here = _joined(here, [(_OUTSIDE,)])
            else:
                here = _joined(here, self._repeated())
        found += here
        if all(len(one) == 1 for one in found):
            together = 0
            for (letters,) in found:
                together |= letters
            return [(together,)]
        return found

    def _none_of(self) -> list[_Sequence]:
        found = self._group()
        if len(found) != 1 or len(found[0]) != 1:
            raise self._unknown()
        return [((_LETTERS | _OUTSIDE) & ~found[0][0],)]

    def _repeated(self) -> list[_Sequence]:
        letters = self._letters()
        if self._takes("?"):
            return [(letters,), ()]
        if self._takes("{2}"):
            return [(letters, letters)]
        return [(letters,)]

    def _letters(self) -> int:
        if self._takes("."):
            return _LETTERS
        if not self._takes("["):
            return self._letter()
        rest = self._takes("^")
        letters = 0
        while not self._takes("]"):
            first = self._letter()
            letters |= (self._letter() << 1) - first if self._takes("-") else first
        return _LETTERS & ~letters if rest else letters

    def _letter(self) -> int:
        if self._at >= len(self._text) or self._text[self._at] not in ascii_lowercase:
            raise self._unknown()
        self._at += 1
        return 1 << ascii_lowercase.index(self._text[self._at - 1])


def _joined(before: list[_Sequence], after: list[_Sequence]) -> list[_Sequence]:
    return [one + other for one in before for other in after]
