"""The words and tokens of a registry, each taken apart once: names by the hundred thousand become token numbers.

What a name means, `matching.names` alone says. A word that means the same wherever it stands is expanded once, by
`expand_ordinary`; how the others sit among ordinary ones is read once, by `outline`; a name that is neither is
parsed whole. Compiled loops do the rest, by tables of numbers.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matching.encoding import StoredTokens, title_code
from matching.import_kernels import (
    APART,
    ARTICLE,
    ASKED,
    ITSELF,
    JOINED,
    LITERAL,
    ORDINARY,
    UNKNOWN,
    UNREADABLE,
    UNSORTED,
    WHOLE,
    expand_names,
    fill_marks,
    fill_pairs,
    number_frames,
    number_word,
    sort_words,
    split_names,
    spread,
)
from matching.names import (
    JOINED_WORD,
    MAX_NAME_CHARACTERS,
    MAX_TOKENS,
    MIN_HALF,
    expand_ordinary,
    is_article,
    join_article,
    join_pairs,
    joined_pairs,
    outline,
    signs,
)
from matching.phonetics import StoredForms, stored_forms
from matching.reference import call_forms_of, sound_weights
from matching.rules import NAME_RULES, PERSON_NAME
from matching.texts import GrowingTexts, Texts, with_room

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from matching.rules import NameRules

MAX_STORED_TOKENS: Final = 8  # per registered name, aliases included; the kernel's bit set has room for 64
MAX_FRAMES: Final = 1 << 17  # about so many, a few dozen bytes each; names of others are parsed one by one
_NEW_FRAMES: Final = 1 << 14  # in one batch
_NEW_WORDS: Final = 1 << 12  # for which there is room before names are split
_FIRST_SLOTS: Final = 1 << 15
_NO_TITLE: Final = title_code(())
_NO_PAIR: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True)
class NameBatch:
    """A column's names, taken apart.

    tokens: (names, MAX_STORED_TOKENS) uint32, numbers in the vocabulary; lengths: (names,) uint8, how many each has.
    father, mother: tokens of the parent a name tells, by the name's position, in the order of those. titles: (names,)
    int32, into `Vocabulary.title_codes`.
    """

    tokens: NDArray[np.uint32]
    lengths: NDArray[np.uint8]
    father: dict[int, tuple[str, ...]]
    mother: dict[int, tuple[str, ...]]
    titles: NDArray[np.int32]


class _Numbered:
    """Sequences that kernels have numbered: an open-addressing table, and their items one after the other."""

    def __init__(self, dtype: type[np.uint8 | np.uint32]) -> None:
        self.known = 0
        self.table = np.zeros(_FIRST_SLOTS, dtype=np.uint64)
        self.items: NDArray[Any] = np.zeros(_FIRST_SLOTS, dtype=dtype)
        self.ends: NDArray[Any] = np.zeros(_FIRST_SLOTS, dtype=np.int64)

    def make_room(self, new: int, items: int) -> None:
        """Make room for `new` more sequences of `items` items each."""
        slots = len(self.table)
        while 2 * (self.known + new + 1) > slots:
            slots *= 2
        if slots > len(self.table):
            larger = np.zeros(slots, dtype=np.uint64)
            spread(self.table, larger)
            self.table = larger
        self.ends = with_room(self.ends, self.known + new + 2)
        self.items = with_room(self.items, int(self.ends[self.known]) + new * items)

    def texts(self) -> Texts:
        """Return sequences of letters as texts."""
        return Texts(self.items, self.ends[: self.known + 1])

    def at(self, number: int) -> NDArray[Any]:
        """Return one sequence."""
        return self.items[self.ends[number] : self.ends[number + 1]]


class _Pairs:
    """What two numbers make together."""

    def __init__(self) -> None:
        self._first, self._second, self._together = array("I"), array("I"), array("I")
        self.fill()

    def add(self, first: int, second: int, together: int) -> None:
        """Add a pair, to be found after `fill`."""
        self._first.append(first)
        self._second.append(second)
        self._together.append(together)

    def fill(self) -> None:
        """Make the table of all pairs anew."""
        slots = 1 << (4 * len(self._first) + 1).bit_length()
        self.pairs = np.full(slots, _NO_PAIR, dtype=np.uint64)
        self.joined = np.zeros(slots, dtype=np.uint32)
        first, second, together = (
            np.array(each, dtype=np.uint32) for each in (self._first, self._second, self._together)
        )
        fill_pairs(first, second, together, self.pairs, self.joined)


class Vocabulary:
    """What an import has met so far, under one set of rules for names."""

    def __init__(self, rules: NameRules) -> None:
        self._rules = rules
        self.title_codes = [_NO_TITLE]
        self._described = np.zeros(0, dtype=np.uint32)
        self._forms = [GrowingTexts() for _ in range(4)]  # spellings, sounds, wide sounds, calls
        self._weights = bytearray()
        self._call_ends = array("q", [0])
        self._titles = {_NO_TITLE: 0}
        # Tokens are words that stand for themselves, and have their numbers.
        self._words = _Numbered(np.uint8)
        self._heads = np.zeros((0, 2), dtype=np.uint64)
        self._by_string: dict[str, int] = {}  # those that were asked for by name
        self._kinds = np.zeros(0, dtype=np.uint8)
        self._plain = np.zeros(0, dtype=np.uint8)
        self._expansion_of = np.zeros(0, dtype=np.int32)
        self._sorted = 0
        self._expansions, self._expansion_ends = array("I"), array("q", [0])
        self._frames = _Numbered(np.uint32)
        self._parts, self._part_ends, self._frame_titles = array("q"), array("q", [0]), array("i")
        self._fathers: dict[int, tuple[int | str, ...]] = {}  # by frame, where a name tells it
        # The compiled way stands in for these rules as they are: whoever leaves one out has names read one by one.
        self._compiled = rules is NAME_RULES[PERSON_NAME]
        self._seconds = np.zeros(0, dtype=np.uint8)
        self._pairs, self._articles = _Pairs(), _Pairs()
        if self._compiled:
            self._number_pairs()
            shown = signs()
            self._beginnings = Texts.of(shown.beginnings)
            self._halves = np.zeros(1 << (4 * len(shown.halves)).bit_length(), dtype=np.uint64)
            halves = Texts.of(sorted(shown.halves))
            fill_marks(halves.data, halves.ends, self._halves)
            for word in sorted(shown.words):
                self.token(word)
            self._sort_words(known_signs=True)

    def _number_pairs(self) -> None:
        seconds = []
        for (first, second), together in joined_pairs().items():
            numbers = [self.token(token) for token in (first, second, together)]
            self._pairs.add(*numbers)
            seconds.append(numbers[1])
        self._pairs.fill()
        self._seconds = np.zeros(len(self), dtype=np.uint8)
        self._seconds[seconds] = 1

    def __len__(self) -> int:
        return self._words.known

    def token(self, token: str) -> int:
        """Return a token's number."""
        number = self._by_string.get(token)
        if number is None:
            table, letters = self._words, np.frombuffer(token.encode("ascii"), dtype=np.uint8)
            table.make_room(1, len(letters))
            self._heads = with_room(self._heads, table.known + 1)
            number = number_word(letters, table.items, table.ends, self._heads, table.known, table.table)
            table.known += number == table.known
            self._by_string[token] = number
        return number

    def matrix(self, names: Collection[tuple[str, ...]]) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """Return names given by their tokens, at most MAX_STORED_TOKENS, as NameBatch has them."""
        tokens = np.zeros((len(names), MAX_STORED_TOKENS), dtype=np.uint32)
        lengths = np.zeros(len(names), dtype=np.uint8)
        for position, name in enumerate(names):
            tokens[position, : len(name)] = [self.token(token) for token in name]
            lengths[position] = len(name)
        return tokens, lengths

    def describe(self, tokens: NDArray[np.uint32]) -> StoredTokens:
        """Return what a registry stores of tokens, given by number; worked out once for all fields."""
        self._described = with_room(self._described, len(self), UNKNOWN)
        new = tokens[self._described[tokens] == UNKNOWN]
        self._described[new] = np.arange(len(new), dtype=np.uint32) + np.uint32(len(self._forms[0]))
        self._add_forms(self._words.texts().take(new.astype(np.int64)))
        places = self._described[tokens].astype(np.int64)
        ends = np.array(self._call_ends, dtype=np.int64)
        call_counts = np.diff(ends)[places]
        calls = np.repeat(ends[places] - np.cumsum(call_counts) + call_counts, call_counts) + np.arange(
            call_counts.sum()
        )
        spellings, sounds, wides = (forms.view().take(places) for forms in self._forms[:3])
        weights = np.frombuffer(bytes(self._weights), dtype=np.uint8)[places]
        named = self._words.texts().take(tokens.astype(np.int64))
        return StoredTokens(named, spellings, sounds, wides, self._forms[3].view().take(calls), call_counts, weights)

    def _add_forms(self, new_tokens: Texts) -> None:
        tokens = new_tokens.strings()
        forms = self._stored_forms(tokens)
        if self._compiled:
            self._weights += sound_weights(forms.heard)
            called, call_counts = call_forms_of(tokens)
        else:
            self._weights += bytes(map(self._rules.weight, tokens))
            each = [sorted(self._rules.calls(token)) for token in tokens]
            called, call_counts = list(chain(*each)), list(map(len, each))
        self._call_ends.extend((np.cumsum(call_counts, dtype=np.int64) + len(self._forms[3])).tolist())
        columns = forms.spellings, forms.sounds, forms.wides, Texts.of(called)
        for known, new in zip(self._forms, columns, strict=True):
            known.add(new)

    def _stored_forms(self, tokens: list[str]) -> StoredForms:
        """Return what a registry stores of tokens: of an initial no sound."""
        rules = self._rules
        if self._compiled:
            forms = stored_forms(tokens)
            spellings, sounds, wides = forms[:3]
        else:
            each = [rules.stored_forms(token) for token in tokens]
            spellings = Texts.of([form.spelling for form in each])
            sounds = Texts.of([form.sound for form in each])
            wides = Texts.of([rules.wide(form.sound) for form in each])
            forms = StoredForms(spellings, sounds, wides, [])
        initials = [place for place, token in enumerate(tokens) if len(token) == 1 and rules.initials]
        if not initials:
            return forms
        spelt, heard, wide = spellings.strings(), sounds.strings(), wides.strings()
        for place in initials:
            spelt[place], heard[place], wide[place] = tokens[place], "", ""
        return StoredForms(Texts.of(spelt), Texts.of(heard), Texts.of(wide), forms.heard)

    def read(self, values: Sequence[str | None] | Texts) -> NameBatch:
        """Take names apart."""
        names = len(values)
        batch = NameBatch(
            np.zeros((names, MAX_STORED_TOKENS), dtype=np.uint32),
            np.full(names, WHOLE, dtype=np.uint8),
            {},
            {},
            np.zeros(names, dtype=np.int32),
        )
        if self._compiled and names:
            self._read_words(values, batch)
        self._read_whole(values, batch)
        # By position: values are numbered in the order in which they are first met.
        fathers = dict(sorted(batch.father.items()))
        return replace(batch, father=fathers)

    def _read_words(self, values: Sequence[str | None] | Texts, batch: NameBatch) -> None:
        names = len(values)
        words, word_ends = self._split(values)
        frames = np.full(names, ASKED, dtype=np.int32)
        self._frames.make_room(min(_NEW_FRAMES, names, MAX_FRAMES - self._frames.known), MAX_TOKENS)
        self._take_frames(words, word_ends, frames)
        asked = frames == ASKED
        if asked.any():
            self._take_articles(words, word_ends, np.flatnonzero(asked))
            self._take_frames(words, word_ends, frames)
        expand_names(
            words, word_ends, frames, self._plain, self._expansion_of, np.array(self._expansions, dtype=np.uint32),
            np.array(self._expansion_ends, dtype=np.int64), np.array(self._parts, dtype=np.int64),
            np.array(self._part_ends, dtype=np.int64), self._seconds, self._pairs.pairs, self._pairs.joined,
            batch.tokens, batch.lengths,
        )  # fmt: skip
        framed = np.flatnonzero(frames >= 0)
        batch.titles[framed] = np.array(self._frame_titles, dtype=np.int32)[frames[framed]]
        told = np.zeros(self._frames.known, dtype=np.bool_)
        told[list(self._fathers)] = True
        for name in framed[told[frames[framed]] & (batch.lengths[framed] != WHOLE)].tolist():
            start = abs(int(word_ends[name]) + bool(word_ends[name] < 0))
            batch.father[name] = self._father(int(frames[name]), words[start : word_ends[name + 1]])

    def _father(self, frame: int, words: NDArray[np.uint32]) -> tuple[str, ...]:
        """Return the tokens of the father that a name of this frame tells; words: as `number_frames` has left them."""
        tokens: list[str] = []
        for part in self._fathers[frame]:
            if isinstance(part, str):
                tokens.append(part)
                continue
            place = int(self._expansion_of[words[part]])
            if place == ITSELF:
                tokens.append(self._word(int(words[part])))
            else:
                numbers = self._expansions[self._expansion_ends[place] : self._expansion_ends[place + 1]]
                tokens.extend(map(self._word, numbers))
        return join_pairs(tokens)[:MAX_STORED_TOKENS]

    def _split(self, values: Sequence[str | None] | Texts) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Split names into words; see `split_names`."""
        texts = values if isinstance(values, Texts) else Texts.of_values(values)
        words = np.empty(int(texts.ends[-1] - texts.ends[0]) + MAX_TOKENS, dtype=np.uint32)  # a word has a byte or more
        word_ends = np.zeros(len(values) + 1, dtype=np.int64)
        table = self._words
        progress = np.array([0, table.known], dtype=np.int64)
        while progress[0] < len(values):
            table.make_room(table.known // 4 + _NEW_WORDS, MAX_NAME_CHARACTERS // MAX_TOKENS)
            table.items = with_room(table.items, int(table.ends[table.known]) + 4 * MAX_NAME_CHARACTERS)
            self._heads = with_room(self._heads, len(table.ends))
            split_names(
                texts.data, texts.ends, MAX_NAME_CHARACTERS, MAX_TOKENS, table.table, table.items, table.ends,
                self._heads, words, word_ends, progress,
            )  # fmt: skip
            table.known = int(progress[1])
        self._sort_words()
        return words, word_ends

    def _sort_words(self, *, known_signs: bool = False) -> None:
        """Note of new words whether they are ordinary, and what those expand to.

        known_signs: they are the words of `signs`, of which nothing can be told at a glance.
        """
        table = self._words
        while self._sorted < table.known:
            first, self._sorted = self._sorted, table.known
            self._kinds = with_room(self._kinds, table.known, UNSORTED)
            self._expansion_of = with_room(self._expansion_of, table.known, ITSELF)
            self._plain = with_room(self._plain, table.known)
            if not known_signs:
                sort_words(
                    table.items, table.ends, first, table.known, self._beginnings.data, self._beginnings.ends,
                    MIN_HALF, self._halves, self._kinds,
                )  # fmt: skip
            unsorted = first + np.flatnonzero(self._kinds[first : table.known] == UNSORTED)
            words = table.texts().take(unsorted).strings()
            for number, word, tokens in zip(unsorted.tolist(), words, expand_ordinary(words), strict=True):
                self._kinds[number] = ORDINARY if tokens is not None else ARTICLE if is_article(word) else LITERAL
                if tokens is not None and tokens != (word,):
                    self._expansion_of[number] = len(self._expansion_ends) - 1
                    self._expansions.extend(map(self.token, tokens))
                    self._expansion_ends.append(len(self._expansions))
            new = slice(first, self._sorted)
            self._plain[new] = (self._kinds[new] == ORDINARY) & (self._expansion_of[new] == ITSELF)
            of_pairs = self._seconds[new]
            self._plain[first : first + len(of_pairs)][of_pairs == 1] = 0

    def _take_frames(self, words: NDArray[np.uint32], word_ends: NDArray[np.int64], frames: NDArray[np.int32]) -> None:
        """Give frames their numbers, and note how new ones read."""
        table, articles = self._frames, self._articles
        known = number_frames(
            words, word_ends, self._kinds, self._plain, articles.pairs, articles.joined,
            table.table, table.items, table.ends, table.known, frames,
        )  # fmt: skip
        for frame in range(table.known, known):
            self._take_frame([self._frame_word(item) for item in table.at(frame).tolist()])
        table.known = known

    def _take_articles(self, words: NDArray[np.uint32], word_ends: NDArray[np.int64], names: NDArray[np.int64]) -> None:
        """Note which articles of some names belong to the words after them."""
        asked: dict[tuple[int, int], str | None] = {}
        starts = np.abs(word_ends[names] + (word_ends[names] < 0))
        for start, stop in zip(starts.tolist(), word_ends[names + 1].tolist(), strict=True):
            for first, second in pairwise(words[start:stop].tolist()):
                if self._kinds[first] == ARTICLE and self._kinds[second] == ORDINARY:
                    asked[first, second] = None
        for first, second in asked:
            asked[first, second] = join_article(self._word(first), self._word(second))
        joined = [word for word in asked.values() if word is not None]
        if joined:
            numbers = dict(zip(joined, self._split(joined)[0].tolist(), strict=False))
        for (first, second), word in asked.items():
            if word is None:
                self._articles.add(first, second, APART)
            else:
                number = numbers[word]
                self._articles.add(first, second, number if self._kinds[number] == ORDINARY else UNREADABLE)
        self._articles.fill()

    def _frame_word(self, item: int) -> str | None:
        if item == JOINED:
            return JOINED_WORD
        return self._word(item - 1) if item else None

    def _word(self, number: int) -> str:
        return self._words.at(number).tobytes().decode("ascii")

    def _take_frame(self, frame: list[str | None]) -> None:
        read = outline(frame)
        if read is None:
            self._parts.append(UNKNOWN)
        else:
            self._parts.extend(self.token(part) if isinstance(part, str) else -1 - part for part in read.tokens)
            if read.father:
                self._fathers[len(self._frame_titles)] = read.father
        self._part_ends.append(len(self._parts))
        self._frame_titles.append(0 if read is None else self._title(read.titles))

    def _title(self, titles: tuple[str, ...]) -> int:
        if not titles:
            return 0
        code = title_code(titles)
        number = self._titles.setdefault(code, len(self.title_codes))
        if number == len(self.title_codes):
            self.title_codes.append(code)
        return number

    def _read_whole(self, values: Sequence[str | None] | Texts, batch: NameBatch) -> None:
        """Parse the names that could not be read word by word."""
        parse, parsed = self._rules.parse, {}
        for position in np.flatnonzero(batch.lengths == WHOLE).tolist():
            value = values[position]
            if not value:
                batch.lengths[position] = 0
                continue
            if value not in parsed:
                own, father, mother, aliases, titles = parse(value)
                if aliases or len(own) > MAX_STORED_TOKENS:
                    own = tuple(dict.fromkeys(chain(own, *aliases)))[:MAX_STORED_TOKENS]
                parsed[value] = tuple(map(self.token, own)), father, mother, self._title(titles)
            tokens, father, mother, title = parsed[value]
            batch.tokens[position, : len(tokens)] = tokens
            batch.lengths[position] = len(tokens)
            batch.titles[position] = title
            if father:
                batch.father[position] = father[:MAX_STORED_TOKENS]
            if mother:
                batch.mother[position] = mother[:MAX_STORED_TOKENS]
