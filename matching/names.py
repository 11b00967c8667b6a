"""Takes a name as it was written apart: name, second names, parents, titles.

Rules 1 to 5 of docs/matching.md. Two choices make spellings meet:

- Compounds are split. "Nurhayati" gives the tokens of "Nur Hayati", "Abdurrahman" those of "Abdul Rahman" and
  "Sitiaminah" those of "Siti Aminah", so that a client called by the second half alone still agrees with it.
  Only a known name is split off; "Nurdin" and "Abdullah" stay whole.
- Articles are joined. "Al Fatih", "Al-Fatih" and "Alfatih" are one token: the article alone says nothing.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from itertools import pairwise, repeat
from string import ascii_lowercase
from typing import TYPE_CHECKING, NamedTuple

from matching.phonetics import spelling_and_sound
from matching.tables import read_table, sound_counts, token_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_NAME_CHARACTERS = 160  # the law allows 60 since 2022; longer text is cut, whoever sends it
MAX_TOKENS = 12
MIN_KNOWN = 20  # a token seen this often in the reference names is a name of its own


class ParsedName(NamedTuple):
    """A name taken apart; every token is a-z, lower case, and a single letter is an initial.

    tokens: the person's own name, empty if nothing is left of it.
    father, mother: from "bin X" and from "By. Ny. X".
    aliases: second names, token by token.
    titles: religious and noble titles in one spelling each, and degrees; forms of address are dropped.
    """

    tokens: tuple[str, ...]
    father: tuple[str, ...] = ()
    mother: tuple[str, ...] = ()
    aliases: tuple[tuple[str, ...], ...] = ()
    titles: tuple[str, ...] = ()


NAME_PARTS = (
    "brackets",
    "second_names",
    "comma",
    "titles",
    "degrees",
    "patronyms",
    "compounds",
    "run_together",
    "articles",
    "spelled_letters",
    "abbreviations",
    "muhammad",
)
_NOTHING: frozenset[str] = frozenset()
_PAIRS_APART = frozenset({"pairs"})  # half of "compounds": split words, but join no pair of tokens
_JOINING = _PAIRS_APART | {"compounds"}


def parse_name(raw: str, *, without: frozenset[str] = _NOTHING) -> ParsedName:
    """Return the parts of a name as written. Never raises: a text without a name in it gives no tokens.

    without: parts of rules 1 to 5 to leave out, of NAME_PARTS, so that a benchmark can show what each earns.
    """
    if without:
        return _parse(raw[:MAX_NAME_CHARACTERS], without)
    words = raw.lower().split() if len(raw) <= MAX_NAME_CHARACTERS else []
    # Most names hold no word that depends on where it stands.
    if raw.isascii() and "".join(words).isalpha() and _words_in_context().isdisjoint(words):
        tokens = [token for word in words for token in expand_word(word)]
        return ParsedName(tuple(_join_pairs(tokens)[:MAX_TOKENS]))
    return _parse(raw[:MAX_NAME_CHARACTERS], without)


# --- Rule 1: letters, second names, brackets ------------------------------------------------------------------------

_LETTERS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u00b4\u02bb\u02bc\u02bd\u02be\u02bf\u02b9\u2032\uff07", "'")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | dict(zip("øØłŁđĐ", "oolldd", strict=True))
    | {"æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ß": "ss"}
)
_NOT_A_NAME = re.compile(r"['`\d]+|\([^)]*\)?|\[[^\]]*\]?|\{[^}]*\}?")
_NOT_A_LETTER = re.compile(r"['`\d]+")
_ON_BEHALF = re.compile(r"^\W*a[./]n\b\.?")
_SECOND_NAME = re.compile(r"/|@|(?<=[a-z.])\s+(?:alias|als\b\.?|al\.|a\.k\.a\.?)\s+(?=[a-z])")
_HYPHEN = re.compile(r"([a-z]+)-([a-z]+)")
_WORD = re.compile(r"[a-z]+\.?")
_NOT_LETTERS = re.compile("[^a-z]+")
_NO_NAME = frozenset(
    {
        "tidak ada", "tidak ada nama", "tidak diketahui", "tidak tahu", "tdk ada", "tdk diketahui", "tdk tahu",
        "tanpa nama", "belum ada nama", "belum diketahui", "belum bernama", "nama tidak diketahui", "no name",
        "noname", "unknown", "anonim", "anonymous", "none", "null", "nihil", "kosong", "nan", "n a", "x", "xx",
        "xxx", "mr x", "mrs x", "nn", "n n",
    }
)  # fmt: skip


def _to_ascii(raw: str) -> str:
    if raw.isascii():
        return raw.lower()
    text = unicodedata.normalize("NFKD", raw.translate(_LETTERS)).encode("ascii", "ignore").decode("ascii")
    return text[:MAX_NAME_CHARACTERS].lower()


def _parse(raw: str, without: frozenset[str]) -> ParsedName:
    text = _to_ascii(raw)
    words = text.split()
    if "".join(words).isalpha() and "alias" not in words and "als" not in words:
        return _parse_words(words, without)
    noise = _NOT_A_LETTER if "brackets" in without else _NOT_A_NAME
    text = noise.sub("", _ON_BEHALF.sub("", text))
    parts = [text] if "second_names" in without else _SECOND_NAME.split(text)
    persons = [_parse_person(part, without) for part in parts]
    mother = next((person.mother for person in persons if person.mother), ())
    named = [person for person in persons if person.tokens]
    if not named:
        return ParsedName((), mother=mother)
    first, *others = named
    father = next((person.father for person in named if person.father), ())
    aliases = tuple(dict.fromkeys(person.tokens for person in others if person.tokens != first.tokens))
    return first._replace(father=father, mother=mother, aliases=aliases)


def _parse_person(text: str, without: frozenset[str]) -> ParsedName:
    """Return one person's name; what follows a comma is a degree, unless nothing precedes it."""
    parts = [text] if "comma" in without else text.split(",")
    for place, part in enumerate(parts):
        words = _WORD.findall(_HYPHEN.sub(_close_hyphen, part))
        person = _parse_words(words, without)
        if person.tokens or person.mother:
            degrees = [form for form in map(_NOT_LETTERS.sub, repeat(""), parts[place + 1 :]) if form in _degrees()]
            return person._replace(titles=(*person.titles, *degrees)) if degrees else person
    return ParsedName(())


def _close_hyphen(match: re.Match[str]) -> str:
    left, right = match.groups()
    joined = left in _ARTICLES or left.endswith(right)  # Al-Fatih, Perangin-angin
    return left + right if joined else f"{left} {right}"


# --- Rules 2 and 3: titles and structure ----------------------------------------------------------------------------


class _Title(NamedTuple):
    canonical: str
    kind: str
    place: str


_KEPT_TITLES = frozenset({"religious", "lineage"})
_PATRONYMS = frozenset({"bin", "bn", "ibn", "binti", "binte", "bnt", "bte", "bt"})
_CLAN_MARKERS = frozenset({"br", "boru", "beru"})
_ARTICLES = frozenset({"al", "el", "ad", "an", "ar", "as", "ash", "asy", "at", "ath", "az", "adz"})
_SUFFIXES = frozenset({"ii", "iii", "jr"})


@cache
def _titles() -> dict[str, _Title]:
    return {
        form: _Title(canonical, kind, place)
        for form, canonical, kind, place in read_table("titles.tsv")
        if kind != "degree"
    }


@cache
def _degrees() -> dict[str, str]:
    return {form: place for form, _, kind, place in read_table("titles.tsv") if kind == "degree"}


def _parse_words(words: list[str], without: frozenset[str]) -> ParsedName:
    if " ".join(word.rstrip(".") for word in words) in _NO_NAME:
        return ParsedName(())
    degrees: tuple[str, ...] = ()
    if "degrees" not in without:
        words, degrees = _cut_degrees(words)
    if "spelled_letters" not in without:
        words = _join_spelled_letters(words)
    balinese = _is_balinese(words)
    words, titles, newborn = (words, (), False) if "titles" in without else _strip_titles(words)
    own, father_words = (words, []) if "patronyms" in without else _cut_patronym(words)
    tokens = _to_tokens(own, without, balinese=balinese)
    if newborn:
        return ParsedName((), mother=tokens)
    father = _to_tokens(_strip_titles(father_words)[0], without, balinese=False) if father_words else ()
    return ParsedName(tokens, father=father, titles=titles + degrees)


@cache
def _degree_endings() -> frozenset[str]:
    return frozenset(form[start:] for form in _degrees() for start in range(len(form)))


def _cut_degrees(words: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Take degrees from the end; a form that may be a name or two initials needs a dot to be a degree."""
    degrees: tuple[str, ...] = ()
    while len(words) > 1 and words[-1].rstrip(".") in _degree_endings():
        for width in range(min(4, len(words) - 1), 0, -1):
            tail = words[-width:]
            form = "".join(word.rstrip(".") for word in tail)
            place = _degrees().get(form)
            dotted = any(word.endswith(".") for word in tail)
            if place is not None and (dotted or (width == 1 and place == "tail")):
                words, degrees = words[:-width], (*degrees, form)
                break
        else:
            break
    return words, degrees


def _join_spelled_letters(words: list[str]) -> list[str]:
    """Join letters written apart, "S R I", when they make a known name; otherwise they stay initials."""
    if sum(len(word) == 1 for word in words) < 3:
        return words
    joined: list[str] = []
    start = 0
    while start < len(words):
        end = start
        while end < len(words) and len(words[end]) == 1:
            end += 1
        letters = "".join(words[start:end])
        if end - start >= 3 and token_counts().get(letters, 0) >= MIN_KNOWN:
            joined.append(letters)
            start = end
        else:
            joined.append(words[start])
            start += 1
    return joined


def _strip_titles(words: list[str]) -> tuple[list[str], tuple[str, ...], bool]:
    """Return the words without titles, the titles worth keeping, and whether this is an unnamed newborn."""
    table = _titles()
    titles: dict[str, None] = {}
    newborn = False
    rest = list(words)
    while rest:
        width, title = _leading_title(rest, table)
        if title is None:
            break
        if title.kind in _KEPT_TITLES:
            titles[title.canonical] = None
        newborn |= title.kind == "newborn"
        rest = rest[width:]
    kept = []
    for word in rest:
        title = table.get(word.rstrip("."))
        if title is None or title.place != "any" or len(rest) == 1:
            kept.append(word)
        elif title.kind in _KEPT_TITLES:
            titles[title.canonical] = None
    return kept, tuple(titles), newborn


def read_titles(text: str) -> tuple[str, ...]:
    """Return the titles and degrees in a text that holds nothing else, as `parse_name` gives those of a name."""
    words, degrees = _cut_degrees(["somebody", *_WORD.findall(_to_ascii(text[:MAX_NAME_CHARACTERS]))])
    return _strip_titles([*words[1:], "somebody"])[1] + degrees


def _leading_title(words: list[str], table: dict[str, _Title]) -> tuple[int, _Title | None]:
    bare = words[0].rstrip(".")
    if len(words) > 2:
        title = table.get(f"{bare} {words[1].rstrip('.')}")
        if title is not None:
            return 2, title
    title = table.get(bare)
    if title is None:
        return 1, None
    dotted = words[0].endswith(".")
    allowed = title.place == "lead" or len(words) > 1
    if title.place == "dotted":
        allowed &= dotted  # "An." is a child, "An" a name
    elif len(bare) == 1 and title.kind == "lineage":
        allowed &= not dotted  # "I." is an initial, "I" before a name a Balinese marker
    return 1, title if allowed else None


def _cut_patronym(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the own name and the father's; a leading Binti is a woman's own name in East Java."""
    cuts = [i for i, word in enumerate(words) if i and word.rstrip(".") in _PATRONYMS]
    if not cuts:
        return words, []
    end = cuts[1] if len(cuts) > 1 else len(words)
    return words[: cuts[0]], words[cuts[0] + 1 : end]


# --- Rules 4 and 5: abbreviations, compounds, Muhammad --------------------------------------------------------------

_MUHAMMAD = re.compile(r"m[ou](?:hh?|c?kh?|ch)a?m{1,3}[ae]?[dt]{1,2}|m[ou]am{1,2}[ae]d")
_MUHAMMAD_STARTS = ("mo", "mu")
_SITI = re.compile("siti(.{4,})")
_NUR = re.compile("n(?:u|oe|oo|o)r(?:(ul)(?=.{4}))?(.{4,})")
_ABDUL = re.compile("abd(?:u|oe|oo|o(?![eo]))(?!ll?[ao]h?$)(.{4,})")  # Abdullah is a name of its own
_FATHUR = re.compile("[fpv]at(?:kh|ch|h)?ur?(r.{4,})")
_COMPOUND_STARTS = ("siti", "nu", "no", "abd", "fat", "pat", "vat")  # of the four above, quicker to look for
_MIN_ROOT = 4  # letters a split-off name must have
# Beside one of these Md is Made, otherwise Muhammad. Agung, Ayu and the like are names all over the country.
_BALINESE = frozenset(
    {
        "wayan", "wyn", "nyoman", "nym", "ketut", "putu", "gede", "gde", "kadek", "komang", "kmg", "nengah",
        "ngh", "luh", "gusti", "gst", "desak", "dsk", "ngurah", "ngr", "cokorda",
    }
)  # fmt: skip
_BALINESE_MARKERS = frozenset({"i", "ni"})


@cache
def _abbreviations(condition: str) -> dict[str, tuple[str, ...]]:
    table = read_table("name_abbreviations.tsv")
    return {form: tuple(name.split()) for form, name, needs in table if needs == condition}


def _is_balinese(words: list[str]) -> bool:
    return bool(words) and (words[0] in _BALINESE_MARKERS or any(word.rstrip(".") in _BALINESE for word in words))


def _to_tokens(words: list[str], without: frozenset[str], *, balinese: bool) -> tuple[str, ...]:
    tokens: list[str] = []
    article = ""
    for i, word in enumerate(words):
        bare = word.rstrip(".")
        last = i + 1 == len(words)
        if (bare in _CLAN_MARKERS and not last) or (bare in _SUFFIXES and i):
            continue
        if bare in _ARTICLES and not last and _joins(bare, words[i + 1]) and "articles" not in without:
            article += bare
            continue
        if article:
            bare, article = article + bare, ""
        elif (full := _written_out(word, bare, balinese=balinese)) and "abbreviations" not in without:
            tokens.extend(full)
            continue
        elif bare == "st" and last and i:
            continue  # at the end an engineer's degree, before a name Siti
        tokens.extend(_expand(bare, without) if without else expand_word(bare))
    return tuple((_join_pairs(tokens) if _JOINING.isdisjoint(without) else tokens)[:MAX_TOKENS])


def _written_out(word: str, bare: str, *, balinese: bool) -> tuple[str, ...] | None:
    """Return what an abbreviation stands for beside a Balinese marker, or with a dot."""
    if balinese and bare in _abbreviations("bali"):
        return _abbreviations("bali")[bare]
    return _abbreviations("dotted").get(bare) if word != bare else None


def _join_pairs(tokens: list[str]) -> list[str]:
    """Join "Rahma Wati", which nearly everybody writes in one word."""
    compounds = _compounds()
    if compounds.seconds.isdisjoint(tokens) or compounds.together.keys().isdisjoint(pairwise(tokens)):
        return tokens
    together = compounds.together
    joined: list[str] = []
    for token in tokens:
        word = together.get((joined[-1], token)) if joined else None
        if word is None:
            joined.append(token)
        else:
            joined[-1] = word
    return joined


def _joins(article: str, following: str) -> bool:
    """Whether the article belongs to the next word: it takes on that word's first consonant, "Ar Rahman"."""
    named = len(following.rstrip(".")) > 2 or following in _ARTICLES
    return named and (article in {"al", "el"} or following.startswith(article[1]))


@lru_cache(maxsize=1 << 16)
def expand_word(word: str) -> tuple[str, ...]:
    """Return the tokens one word stands for."""
    return _expand(word, _NOTHING)


def _expand(word: str, without: frozenset[str]) -> tuple[str, ...]:
    full = None if "abbreviations" in without else _abbreviations("any").get(word)
    if full is not None:
        return full
    if word.startswith(_MUHAMMAD_STARTS) and "muhammad" not in without and _MUHAMMAD.fullmatch(word):
        return ("muhammad",)
    halves = None if "compounds" in without else _split_compound(word) or _compounds().apart.get(word)
    if halves is None and "run_together" not in without:
        halves = _split_run_together(word)
    return halves or (word,)


def _split_compound(word: str) -> tuple[str, ...] | None:
    """Split abdul, fathur, nur or siti from the known name it was written together with."""
    if not word.startswith(_COMPOUND_STARTS):
        return None
    if match := _SITI.fullmatch(word):
        parts = [("siti", match[1])]
    elif match := _NUR.fullmatch(word):
        parts = [("nurul" if match[1] else "nur", match[2])]
    elif match := _ABDUL.fullmatch(word):
        rest = match[1]  # "lrahman", "rrahman", "rahman", "laziz": the l may have become the next consonant
        parts = [("abdul", rest[1:])] if rest[0] in {"l", rest[1]} else []
        parts.append(("abdul", rest))
    elif match := _FATHUR.fullmatch(word):
        parts = [("fathur", match[1])]
    else:
        return None
    for prefix, rest in parts:
        if len(rest) >= _MIN_ROOT and _is_known(rest):
            return (prefix, *expand_word(rest))
    return None


def _is_known(name: str) -> bool:
    counts = token_counts()
    if counts.get(name, 0) >= MIN_KNOWN:
        return True
    return any(counts.get(form, 0) >= MIN_KNOWN for form in spelling_and_sound(name))


class _Compounds(NamedTuple):
    """Pairs of names that occur both ways, in the way most people write them. seconds: of those in `together`."""

    apart: dict[str, tuple[str, ...]]
    together: dict[tuple[str, str], str]
    seconds: set[str]


MIN_PAIRS = 10  # written together this often; the pairs table starts there too
_APART_SHARE = 1 / 3  # of the joined form: Puspita Sari and Puspitasari are both common, and two tokens say more


@cache
def _compounds() -> _Compounds:
    counts = token_counts()
    pairs: dict[tuple[str, str], int] = {}
    for first, second, _, count in read_table("name_bigrams.tsv"):
        pairs[first, second] = pairs.get((first, second), 0) + int(count)
    table = _Compounds({}, {}, set())
    for (first, second), n_apart in pairs.items():
        word = first + second
        n_together = counts.get(word, 0)
        if n_together < MIN_PAIRS or min(len(first), len(second)) < 2 or not word.isalpha():
            continue
        if first in {"nur", "siti", "abdul"} or not _ARTICLES.isdisjoint({first, second}):
            continue
        if n_apart >= n_together * _APART_SHARE:
            table.apart[word] = (first, second)
        else:
            table.together[first, second] = word
            table.seconds.add(second)
    return table


MIN_HALF = 3  # letters of a name that was written together with another
_MIN_RUN = 300  # both halves of a word nobody bears must be this common, a half of three letters ten times as much
# Endings rather than names: what they close is one name, however rare.
_ENDINGS = frozenset(
    {
        "wati", "waty", "ningsih", "ningrum", "yanti", "yani", "yati", "yana", "yadi", "yanto", "yono", "anto",
        "anti", "udin", "uddin", "syah", "nata", "andi", "riani", "rianto", "anita", "rini", "lina", "diah",
        "diana", "riana",
    }
)  # fmt: skip


def _split_run_together(word: str) -> tuple[str, ...] | None:
    """Split "Budisantoso": a word that is nobody's name, nor sounds like one, yet is two common names in a row."""
    if len(word) < 7 or word in token_counts():
        return None
    common = _common_tokens()
    best, halves = 0, None
    for cut in range(MIN_HALF, len(word) - MIN_HALF):
        first, second = word[:cut], word[cut:]
        if second not in common or first not in common or second in _ENDINGS:
            continue
        n_both = common[first] * common[second]
        if n_both > best and (cut > MIN_HALF or common[first] >= 10 * _MIN_RUN):
            best, halves = n_both, (first, second)
    # What it sounds like is looked at last, for few words are two names in a row.
    return None if halves is not None and spelling_and_sound(word)[1] in sound_counts() else halves


@cache
def _common_tokens() -> dict[str, int]:
    return {token: count for token, count in token_counts().items() if count >= _MIN_RUN}


@cache
def _words_in_context() -> frozenset[str]:
    """Words whose meaning depends on where they stand or on what stands beside them."""
    special = {word for form in _titles() for word in form.split()} | set(_degrees())
    special |= {word for phrase in _NO_NAME for word in phrase.split()} | {"alias", "als"}
    special |= _PATRONYMS | _CLAN_MARKERS | _ARTICLES | _SUFFIXES | _BALINESE | _BALINESE_MARKERS
    return frozenset(special | set(ascii_lowercase))


# --- Names by the million -------------------------------------------------------------------------------------------

# An import takes every word apart once, by `expand_ordinary`, and every `Outline` once. What it makes of a
# name is what `parse_name` would say: these are the rules above, asked about pieces.

JOINED_WORD = ""  # in a frame


class Outline(NamedTuple):
    """How a name reads, whatever its ordinary words are.

    tokens: of the person, pairs not yet joined; a number stands for what the word of that place expands to, together
    with the article before it where that belongs to it. father: of the father.
    """

    tokens: tuple[int | str, ...]
    titles: tuple[str, ...]
    father: tuple[int | str, ...] = ()


def expand_ordinary(words: Iterable[str]) -> Iterator[tuple[str, ...] | None]:
    """Yield for each word what it stands for in every name, whatever stands beside it; None for one that is looked at.

    Words: letters in lower case, and perhaps a dot after them. An article before an ordinary word may belong to it.
    """
    matter = _words_that_matter()
    for word in words:
        yield None if word in matter or not word.isalpha() else _expand(word, _NOTHING)


class Signs(NamedTuple):
    """What a word of letters must show to be anything but ordinary and itself.

    It is one of `words`, or has one of `beginnings`, or is two of `halves` in a row.
    """

    words: frozenset[str]
    beginnings: tuple[str, ...]
    halves: frozenset[str]


def signs() -> Signs:
    """Return the signs without which `expand_ordinary` says of a word that it stands for itself."""
    words = _words_that_matter() | set(_abbreviations("any")) | set(_compounds().apart)
    return Signs(frozenset(words), (*_COMPOUND_STARTS, *_MUHAMMAD_STARTS), frozenset(_common_tokens()))


@cache
def _words_that_matter() -> frozenset[str]:
    """Words in context, and those that become one beside a dot or a Balinese name."""
    pieces = {form[i:j] for form in _degrees() for i in range(len(form)) for j in range(i + 1, len(form) + 1)}
    return _words_in_context() | pieces | set(_abbreviations("bali")) | set(_abbreviations("dotted"))


def is_article(word: str) -> bool:
    """Whether a word may belong to the one after it."""
    return word in _ARTICLES


def join_article(article: str, word: str) -> str | None:
    """Return the one word that an article and an ordinary word are; None if they are two."""
    return article + word if _joins(article, word) else None


_STAND_INS = tuple(f"qxq{letter}q" for letter in ascii_lowercase[:MAX_TOKENS])  # nobody's name, and never taken apart


def outline(frame: Sequence[str | None]) -> Outline | None:
    """Read a name of at most MAX_TOKENS words, in lower case, of which the ordinary ones are left out.

    They are None, or JOINED_WORD where `join_article` joins them to the word before. Returns None if they matter after
    all, or if the name tells more than the person's own and the father's.
    """
    articles = [place for place, word in enumerate(frame[:-1]) if word and word.rstrip(".") in _ARTICLES]
    if any(frame[place + 1] and not all(frame[place + 2 :]) for place in articles):
        return None  # what stands between an article and a word may fall out, and they meet
    words: list[str] = []
    places: dict[str, int] = {}
    for place, word in enumerate(frame):
        if word:
            words.append(word)
            continue
        stand_in = _STAND_INS[place]
        if place - 1 in articles:
            article = words[-1]
            if article.endswith("."):
                return None
            stand_in = stand_in if word is None else article[1] + stand_in
            if _joins(article, stand_in) != (word is not None):
                return None
        words.append(stand_in)
        places[stand_in if word is None else words[-2] + stand_in] = place
    text = " ".join(words)
    if len(text) > MAX_NAME_CHARACTERS:
        return None
    parsed = parse_name(text, without=_PAIRS_APART)
    if parsed.mother or parsed.aliases or max(len(parsed.tokens), len(parsed.father)) >= MAX_TOKENS:
        return None
    # Of a person without a name, the rest is kept or not as the name is written.
    nameless = not parsed.tokens and (parsed.father or parsed.titles)
    tokens, father = (tuple(places.get(token, token) for token in each) for each in (parsed.tokens, parsed.father))
    return None if nameless else Outline(tokens, parsed.titles, father)


def join_pairs(tokens: Sequence[str]) -> tuple[str, ...]:
    """Join the tokens of one person that are one where they follow each other; at most MAX_TOKENS are left."""
    return tuple(_join_pairs(list(tokens))[:MAX_TOKENS])


def joined_pairs() -> Mapping[tuple[str, str], str]:
    """Return the pairs of tokens that are one token where they follow each other, from left to right."""
    return _compounds().together
