# ruff: noqa: ARG001 - every operation has one signature, so that a table can hold them
"""What happens to a fact on its way from a registry to a caseworker's question.

One function per row of data/client_errors.tsv. An operation that does not apply to a name returns None.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from benchmarks.name_model import read_table
from benchmarks.places_model import place_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

Profile = Literal["low", "base", "high"]
Tokens = list[str]
T = TypeVar("T")


@dataclass(frozen=True)
class Person:
    """What is true of a person, and what their registry wrote.

    registered_*: as in the registry, None where it is blank or the person stands in none.
    place: number of the birth regency in the place model. custom: of naming, see the name model.
    """

    name: str
    registered_name: str
    is_male: bool
    born: dt.date
    registered_born: dt.date
    default_date: bool
    place: int
    registered_place: str | None
    mother: str
    registered_mother: str | None
    custom: str
    province: str


@dataclass(frozen=True)
class Description:
    """A client as described by the caseworker; operations: what was done to get there, `field:key`."""

    name: str
    sex: str | None
    birth_date: str | None
    birthplace: str | None
    mother_name: str | None
    operations: tuple[str, ...]


# --- spellings ---------------------------------------------------------------------------------------------------

_MUHAMMAD_FORMS: Final = ("muhammad", "muhamad", "mohammad", "mohamad", "mochammad", "mochamad", "mokhamad", "mohamed")
_MUHAMMAD_SHORT: Final = ("m", "moh", "muh", "moch", "mhd", "md")
_MARKERS: Final = {
    "i": "", "ni": "", "gede": "gd", "ketut": "kt", "made": "md", "wayan": "wyn", "nyoman": "nym", "putu": "pt",
    "kadek": "kd", "komang": "km", "luh": "lh", "gusti": "gst", "agung": "agg", "nengah": "ngh", "ida": "", "anak": "",
    "dewa": "dw", "desak": "dsk", "lalu": "l", "baiq": "bq", "boru": "br", "br": "", "umbu": "", "rambu": "",
}  # fmt: skip
_MARKER_FIRST: Final = frozenset(_MARKERS) - {"boru", "br"}
_JOINERS: Final = (
    "nur", "abdul", "abdur", "siti", "sri", "tri", "dwi", "eka", "al", "az", "ar", "as", "noor", "nor", "dewi", "yuli",
)  # fmt: skip
_COMPOUNDS: Final = ("nur", "abdul", "siti", "sri", "noor")
_SAID_LAST: Final = frozenset((
    *_MUHAMMAD_FORMS, *_MUHAMMAD_SHORT, "siti", "sri", "nur", "abdul", "ahmad", "achmad", "dwi", "tri", "al", "az",
))  # fmt: skip
_FATHERS: Final = (
    "ahmad", "sutrisno", "slamet", "abdullah", "kasim", "usman", "suparman", "wiryo", "karto", "sarman", "hasan",
    "umar", "amat", "paimin", "saleh", "dullah", "rasyid", "sukardi", "parto", "yusuf", "ibrahim", "marjuki", "tarno",
)  # fmt: skip
_ALIASES: Final = (
    "gendut", "kancil", "gondrong", "ireng", "cilik", "tole", "ucok", "ujang", "otong", "genduk", "upik", "mbing",
)  # fmt: skip
_NEAR: Final = {  # neighbours on the keyboard
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
# Ways in which one sound is spelt, tried where a token has no group in variants.tsv.
_RESPELLINGS: Final = tuple(
    (re.compile(pattern), spelt)
    for pattern, spelt in (
        (r"i$", "y"), (r"y$", "i"), (r"ie$", "i"), (r"dh", "d"), (r"d(?=[aiu])", "dh"), (r"th", "t"), (r"kh", "h"),
        (r"kh", "k"), (r"sy", "s"), (r"z", "j"), (r"z", "s"), (r"q", "k"), (r"f", "p"), (r"v", "f"),
        (r"([lnrstm])\1", r"\1"), (r"(?<=[aiueo])([lnrst])(?=[aiueo])", r"\1\1"), (r"iy(?=[aou])", "i"),
        (r"i(?=[aou])", "iy"), (r"uw(?=[aie])", "u"), (r"u(?=[aie])", "uw"), (r"ai", "ae"), (r"ae", "ai"),
        (r"au", "ao"),
        (r"h$", ""), (r"(?<=[ai])$", "h"), (r"d$", "t"), (r"b$", "p"), (r"a(?=[^aiueo]+o$)", "o"),
        (r"(?<!^)e(?=[^aiueo]+[aiueo])", "i"),
    )
)  # fmt: skip
_TITLE: Final = re.compile(r"^(h|hj|hi|drs|dra|ir|dr)\.? ", re.IGNORECASE)
_PATRONYM: Final = re.compile(r" (bin|binti|bt)\b.*", re.IGNORECASE)


_OLD_SIGNS: Final = re.compile(r"oe|tj|dj|sj|ch|^nj")


def spelling_1947(token: str) -> str:
    """Return a token in the spelling of 1947: tj, dj, nj, sj, ch, j for y; u stays."""
    marked = token.replace("sy", "§s").replace("kh", "§k").replace("ny", "§n").replace("c", "tj")
    marked = marked.replace("j", "dj") if "tj" not in marked else re.sub(r"(?<!t)j", "dj", marked)
    marked = marked.replace("y", "j")
    return marked.replace("§s", "sj").replace("§k", "ch").replace("§n", "nj")


def spelling_1901(token: str) -> str:
    """Return a token in the spelling of 1901: that of 1947, with oe for u."""
    return spelling_1947(token).replace("u", "oe")


def spelling_today(token: str) -> str:
    """Return a token of an old spelling in today's; one without a sign of the old spelling as it is.

    nj alone is a sign at the start only: Sanjaya and Panjaitan are modern.
    """
    if not _OLD_SIGNS.search(token):
        return token
    today = token.replace("oe", "u").replace("tj", "c").replace("sj", "sy").replace("nj", "ny").replace("ch", "kh")
    return re.sub(r"(?<!d)j", "y", today).replace("dj", "j")


def slip(rng: np.random.Generator, text: str) -> str:
    """Make one typing error: 45 % another letter, 25 % one less, 20 % one more, 10 % two exchanged."""
    letters = [at for at, letter in enumerate(text) if letter.isalpha()]
    if len(letters) < 3:
        return text
    at = letters[int(rng.integers(1, len(letters)))]
    kind, letter = rng.random(), text[at]
    near = _NEAR.get(letter.lower(), "e")
    other = near[int(rng.integers(len(near)))]
    other = other.upper() if letter.isupper() else other
    if kind < 0.45:
        return text[:at] + other + text[at + 1 :]
    if kind < 0.70:
        return text[:at] + text[at + 1 :]
    if kind < 0.90:
        return text[:at] + (letter if rng.random() < 0.5 else other) + text[at:]
    return text[: at - 1] + letter + text[at - 1] + text[at + 1 :]


_SPELLING_KINDS: Final = frozenset(
    {"arabic_translit", "dialect_f_p_v", "doubled_letter", "javanese_vowel", "typo_phonetic"}
)


@cache
def _variants() -> Mapping[str, list[tuple[str, float]]]:
    """Per token, the other spellings of its group with the weight they are drawn by."""
    return _group_variants(_SPELLING_KINDS)


@cache
def _nicknames() -> Mapping[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for row in read_table("matching", "variants.tsv"):
        if row["kind"] == "nickname" and " " not in row["variant"]:
            found.setdefault(row["canonical"], []).append((row["variant"], float(row["n_variant"]) + 1))
    return found


def _group_variants(kinds: frozenset[str]) -> Mapping[str, list[tuple[str, float]]]:
    counts = {row["token"]: int(row["n_f"]) + int(row["n_m"]) for row in read_table("matching", "name_tokens.tsv")}
    groups: dict[str, dict[str, float]] = {}
    for row in read_table("matching", "variants.tsv"):
        if row["kind"] in kinds and " " not in row["canonical"] + row["variant"]:
            group = groups.setdefault(row["canonical"], {row["canonical"]: counts.get(row["canonical"], 0) + 1.0})
            group[row["variant"]] = int(row["n_variant"]) + 1.0
    found: dict[str, dict[str, float]] = {}
    for group in groups.values():
        for member in group:
            for other, weight in group.items():
                if other != member:
                    found.setdefault(member, {})[other] = max(weight, found.get(member, {}).get(other, 0.0))
    return {token: sorted(others.items()) for token, others in found.items()}


def _weighted(rng: np.random.Generator, options: list[tuple[str, float]]) -> str:
    target = rng.random() * sum(weight for _, weight in options)
    for option, weight in options:
        target -= weight
        if target < 0:
            return option
    return options[-1][0]


# --- operations on a name ----------------------------------------------------------------------------------------


def change_title(rng: np.random.Generator, name: str, person: Person) -> str | None:
    """Drop the titles and degrees a name has, or call an elder one without them Haji."""
    bare = _TITLE.sub("", name.partition(",")[0])
    if bare != name:
        return bare
    if person.born.year < 1975 and person.custom not in {"ntt", "bali", "batak"} and rng.random() < 0.1:
        return f"{'h.' if person.is_male else 'hj.'} {name}"
    return None


def change_muhammad_form(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Write Muhammad in another of its full spellings."""
    return _replace_muhammad(rng, tokens, _MUHAMMAD_FORMS)


def abbreviate_muhammad(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Write Muhammad as M, Moh, Muh, Moch..."""
    return _replace_muhammad(rng, tokens, _MUHAMMAD_SHORT) if len(tokens) > 1 else None


def _replace_muhammad(rng: np.random.Generator, tokens: Tokens, forms: tuple[str, ...]) -> Tokens | None:
    for at, token in enumerate(tokens):
        if token in _MUHAMMAD_FORMS or (token in _MUHAMMAD_SHORT and at == 0 and len(tokens) > 1):
            others = [form for form in forms if form != token]
            # The first forms are by far the most usual.
            return [*tokens[:at], others[int(rng.random() ** 2 * len(others))], *tokens[at + 1 :]]
    return None


def abbreviate_to_initial(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Leave one letter of a token that is not the first."""
    if len(tokens) < 3:
        return None
    at = int(rng.integers(1, len(tokens)))
    return [*tokens[:at], tokens[at][0], *tokens[at + 1 :]] if len(tokens[at]) > 1 else None


def change_marker(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Abbreviate or drop a Balinese, Sasak, Batak or Sumba marker."""
    if person.custom not in {"bali", "sasak", "batak", "ntt"} or len(tokens) < 2 or tokens[0] not in _MARKER_FIRST:
        return None
    marked = [at for at, token in enumerate(tokens[:-1]) if token in _MARKERS]
    at = marked[int(rng.integers(len(marked)))]
    short = _MARKERS[tokens[at]]
    if short and rng.random() < 0.6:
        return [*tokens[:at], short, *tokens[at + 1 :]]
    return [*tokens[:at], *tokens[at + 1 :]]


def drop_tokens(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Keep the one token the person is called by, or lose one."""
    if len(tokens) < 2:
        return None
    if rng.random() < 0.6 or len(tokens) == 2:
        called = [
            token for token in tokens if token not in _SAID_LAST and token not in _MARKERS and len(token) > 2
        ] or tokens
        return [called[0] if rng.random() < 0.6 else called[-1]]
    at = int(rng.integers(len(tokens)))
    return [*tokens[:at], *tokens[at + 1 :]]


def add_token(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Add the father's or husband's name, or what the neighbours say."""
    if rng.random() < 0.7:
        return [*tokens, _FATHERS[int(rng.integers(len(_FATHERS)))]]
    return [*tokens, "alias", _ALIASES[int(rng.integers(len(_ALIASES)))]]


def change_order(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Exchange two neighbouring tokens."""
    if len(tokens) < 2:
        return None
    at = int(rng.integers(len(tokens) - 1))
    return [*tokens[:at], tokens[at + 1], tokens[at], *tokens[at + 2 :]]


def join_or_split(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Nur Hayati becomes Nurhayati, Abdurrahman becomes Abdul Rahman."""
    for at, token in enumerate(tokens):
        if token in _JOINERS and at + 1 < len(tokens) and len(tokens[at + 1]) > 2:
            return [*tokens[:at], token + tokens[at + 1], *tokens[at + 2 :]]
        for head in _COMPOUNDS:
            if token.startswith(head) and len(token) >= len(head) + 4:
                return [*tokens[:at], head, token[len(head) :], *tokens[at + 1 :]]
        if token.startswith("abdurr") and len(token) > 8:
            return [*tokens[:at], "abdul", token[5:], *tokens[at + 1 :]]
    return None


def add_or_drop_patronym(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Add or leave out bin or binti and the father's name."""
    if person.custom in {"ntt", "bali", "batak"}:
        return None
    link = "bin" if person.is_male else "binti"
    if link in tokens:
        return tokens[: tokens.index(link)]
    father = _FATHERS[int(rng.integers(len(_FATHERS)))]
    return [*tokens, father] if rng.random() < 0.2 else [*tokens, link, father]


def use_nickname(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Give the name people call: Gunawan is Wawan, Sutrisno is Trisno."""
    known = _nicknames()
    named = [at for at, token in enumerate(tokens) if token in known]
    if named:
        at = named[int(rng.integers(len(named)))]
        called = _weighted(rng, known[tokens[at]])
    else:
        short = _shortened(tokens[-1])
        if short is None:
            return None
        called, at = short, len(tokens) - 1
    return [called] if rng.random() < 0.6 else [*tokens[:at], called, *tokens[at + 1 :]]


_TWO_SYLLABLES: Final = re.compile(r"(tr|ng|ny|[^aeiou])[aeiou](ng|ny|[^aeiou]{1,2})[aeiou][^aeiou]?$")


def _shortened(token: str) -> str | None:
    """Leave the last two syllables, as Javanese nicknames do."""
    found = _TWO_SYLLABLES.search(token)
    short = found.group() if found else None
    return short if short and 4 <= len(short) < len(token) else None


def newborn_placeholder(rng: np.random.Generator, tokens: Tokens, person: Person) -> Tokens | None:
    """Call a child under one by its mother: By. Ny. X."""
    return ["by.", "ny.", *person.mother.lower().split()]


# --- operations on one token -------------------------------------------------------------------------------------


def use_variant(rng: np.random.Generator, token: str, person: Person) -> str | None:
    """Write another spelling of the token's group, as often as it is seen."""
    options = _variants().get(token)
    return _weighted(rng, options) if options else None


def respell(rng: np.random.Generator, token: str, person: Person) -> str | None:
    """Spell a token another way by which it sounds the same; by its group where it has one."""
    known = use_variant(rng, token, person)
    if known is not None:
        return known
    fitting = [(pattern, spelt) for pattern, spelt in _RESPELLINGS if pattern.search(token)]
    if not fitting:
        return None
    pattern, spelt = fitting[int(rng.integers(len(fitting)))]
    return pattern.sub(spelt, token, count=1)


def switch_old_spelling(rng: np.random.Generator, token: str, person: Person) -> str | None:
    """Write a modern spelling the old way, or an old one the modern way."""
    today = spelling_today(token)
    if today != token:
        return today
    old = spelling_1901(token) if rng.random() < 0.6 else spelling_1947(token)
    return old if old != token else None


def switch_fpv(rng: np.random.Generator, token: str, person: Person) -> str | None:
    """Exchange f, p and v, as speakers of Sundanese and Javanese do."""
    at = [place for place, letter in enumerate(token) if letter in "fpv"]
    if not at:
        return None
    place = at[int(rng.integers(len(at)))]
    other = {"f": "p", "v": "f" if rng.random() < 0.5 else "p", "p": "f"}[token[place]]
    return token[:place] + other + token[place + 1 :]


def switch_javanese_vowel(rng: np.random.Generator, token: str, person: Person) -> str | None:
    """Exchange the Javanese o and the a that spells it elsewhere: Joko, Jaka."""
    if token.endswith("o"):
        body = token[:-1]
        inner = body[:-2] + body[-2:].replace("o", "a") if rng.random() < 0.6 else body
        return f"{inner}a"
    if token.endswith("a") and len(token) > 3:
        return f"{token[:-1]}o"
    return None


def typing_error(rng: np.random.Generator, token: str, person: Person) -> str | None:
    """Make a typing error in a token."""
    slipped = slip(rng, token)
    return slipped if slipped != token else None


# In the order in which they happen: what the family writes, what people call, what is heard, what is typed.
_ON_NAME: Final[tuple[tuple[str, Callable[[np.random.Generator, Tokens, Person], Tokens | None]], ...]] = (
    ("nickname", use_nickname),
    ("token_dropped", drop_tokens),
    ("marker", change_marker),
    ("patronym", add_or_drop_patronym),
    ("token_added", add_token),
    ("order", change_order),
    ("join_split", join_or_split),
    ("muhammad_form", change_muhammad_form),
    ("muhammad_abbreviated", abbreviate_muhammad),
    ("initial", abbreviate_to_initial),
)
_ON_TOKEN: Final[tuple[tuple[str, Callable[[np.random.Generator, str, Person], str | None]], ...]] = (
    ("variant", use_variant),
    ("old_spelling", switch_old_spelling),
    ("fpv", switch_fpv),
    ("javanese_ao", switch_javanese_vowel),
    ("typo", typing_error),
)
_JAVANESE: Final = frozenset({"jawa", "lampung"})


class ErrorModel:
    """Describes persons as clients, with the error rates of one profile."""

    def __init__(self, profile: Profile, today: dt.date) -> None:
        self._rates = self.rates(profile)
        self._today = today

    @staticmethod
    def rates(profile: Profile) -> Mapping[str, float]:
        """Return the rate of every operation under a profile."""
        return {row["key"]: float(row[profile]) for row in read_table("benchmarks", "client_errors.tsv")}

    def describe(self, rng: np.random.Generator, person: Person) -> Description:
        """Return what a caseworker would write down about this person."""
        done: list[str] = []
        name = self._name(rng, person, done)
        sex = self._sex(rng, person, done)
        born = self._birth_date(rng, person, done)
        place = self._birthplace(rng, person, done)
        mother = self._mother(rng, person, done)
        if self._happens(rng, "few_fields"):
            done.append("all:few_fields")
            kept = int(rng.integers(3))
            born, place, mother = (value if at == kept else None for at, value in enumerate((born, place, mother)))
        return Description(_capitalised(name), sex, born, place, mother and _capitalised(mother), tuple(done))

    def _happens(self, rng: np.random.Generator, key: str, scale: float = 1.0) -> bool:
        return bool(rng.random() < self._rates[key] * scale)

    def _name(self, rng: np.random.Generator, person: Person, done: list[str]) -> str:
        written = person.registered_name.lower()
        if self._today - person.born < dt.timedelta(days=365) and self._happens(rng, "newborn"):
            done.append("name:newborn")
            return " ".join(newborn_placeholder(rng, [], person) or [])
        exact = self._rates["name_exact"]
        if rng.random() < exact:
            return written
        # The table's rates are shares of all clients, exact copies included.
        found: list[str] = []
        name = self._changed(rng, person, written, 1 / (1 - exact), found)
        if name == written:
            # No exact copy, and nothing happened to it: it is misspelt, as half of all differing names are (US MPI).
            name = self._misspelt(rng, person, written, found)
        done.extend(f"name:{key}" for key in found)
        return name

    def _changed(self, rng: np.random.Generator, person: Person, written: str, scale: float, done: list[str]) -> str:
        name = written
        if self._happens(rng, "title", scale):
            name = self._note(done, "title", change_title(rng, name, person), name)
        head = _TITLE.match(name)
        title = head.group() if head else ""
        body, comma, degrees = name.removeprefix(title).partition(",")
        tokens = body.replace(".", " ").split()
        for key, operation in _ON_NAME:
            if self._happens(rng, key, scale):
                tokens = self._note(done, key, operation(rng, tokens, person), tokens)
        for key, on_token in _ON_TOKEN:
            rate = scale * self._token_scale(key, person)
            for at, token in enumerate(tokens):
                if rate and len(token) > 2 and token not in {"bin", "binti", "alias"} and self._happens(rng, key, rate):
                    tokens[at] = self._note(done, key, on_token(rng, token, person), token)
        return title + " ".join(tokens) + comma + degrees

    def _misspelt(self, rng: np.random.Generator, person: Person, written: str, done: list[str]) -> str:
        done.clear()
        title = _TITLE.match(written)
        head = title.group() if title else ""
        body, comma, degrees = written.removeprefix(head).partition(",")
        tokens = body.split()
        at = int(rng.integers(len(tokens)))
        key, change = ("variant", respell) if rng.random() < 0.75 else ("typo", typing_error)
        tokens[at] = self._note(done, key, change(rng, tokens[at], person), tokens[at])
        return head + " ".join(tokens) + comma + degrees

    @staticmethod
    def _note(done: list[str], key: str, changed: T | None, before: T) -> T:
        if changed is None or changed == before:
            return before
        done.append(key)
        return changed

    @staticmethod
    def _token_scale(key: str, person: Person) -> float:
        """Who is more likely to suffer an error of this kind."""
        if key == "old_spelling":
            return 0.0 if person.born.year >= 1972 else 5.0 if person.born.year < 1950 else 1.0
        if key == "fpv":
            return 2.0 if person.province in {"32", "36"} else 1.0
        if key == "javanese_ao":
            return 1.0 if person.custom in _JAVANESE else 0.0
        return 1.0

    def _sex(self, rng: np.random.Generator, person: Person, done: list[str]) -> str | None:
        if self._happens(rng, "sex_missing"):
            done.append("sex:sex_missing")
            return None
        flipped = self._happens(rng, "sex_flipped")
        if flipped:
            done.append("sex:sex_flipped")
        return "L" if person.is_male != flipped else "P"

    def _birth_date(self, rng: np.random.Generator, person: Person, done: list[str]) -> str | None:
        born = person.registered_born
        if person.default_date:
            done.append("dob:registered_default")
            if self._happens(rng, "default_elsewhere"):
                done.append("dob:default_elsewhere")
                born = person.born
        if self._happens(rng, "born_missing"):
            done.append("dob:born_missing")
            return None
        if self._happens(rng, "age_only"):
            return self._age_only(rng, born, done)
        born = self._wrong_date(rng, born, done)
        if self._happens(rng, "born_year_only", 1.5 if born.year < 1960 else 1.0):
            done.append("dob:born_year_only")
            return f"{born.year:04d}"
        return born.isoformat()

    def _age_only(self, rng: np.random.Generator, born: dt.date, done: list[str]) -> str:
        done.append("dob:age_only")
        age = self._today.year - born.year - ((self._today.month, self._today.day) < (born.month, born.day))
        if age >= 40 and self._happens(rng, "age_heaped"):
            done.append("dob:age_heaped")
            age = 5 * round(age / 5)
        return f"{self._today.year - age:04d}"

    def _wrong_date(self, rng: np.random.Generator, born: dt.date, done: list[str]) -> dt.date:
        if self._happens(rng, "year_off"):
            done.append("dob:year_off")
            step = (1, 1, 2, 10)[int(rng.integers(4))] * (1 if rng.random() < 0.5 else -1)
            born = self._at(born, year=born.year + step)
        if self._happens(rng, "day_month_swapped") and born.day <= 12 and born.day != born.month:
            done.append("dob:day_month_swapped")
            born = self._at(born, month=born.day, day=born.month)
        if self._happens(rng, "digit"):
            done.append("dob:digit")
            digits = born.strftime("%d%m%Y")
            at = int(rng.integers(8))
            other = digits[:at] + str((int(digits[at]) + int(rng.integers(1, 10))) % 10) + digits[at + 1 :]
            born = self._at(born, day=int(other[:2]), month=int(other[2:4]), year=int(other[4:]))
        return born

    def _at(self, born: dt.date, **parts: int) -> dt.date:
        """Return the changed date, or the old one where the change is no possible birth date."""
        try:
            changed = born.replace(**parts)
        except ValueError:
            return born
        return changed if dt.date(1900, 1, 1) < changed <= self._today else born

    def _birthplace(self, rng: np.random.Generator, person: Person, done: list[str]) -> str | None:
        if self._happens(rng, "place_missing"):
            done.append("birthplace:place_missing")
            return None
        places = place_model()
        if self._happens(rng, "place_other_level"):
            done.append("birthplace:place_other_level")
            return places.other_level(rng, person.place)
        if self._happens(rng, "place_confused"):
            done.append("birthplace:place_confused")
            return places.confused(rng, person.place)
        return places.bare_name(person.place)

    def _mother(self, rng: np.random.Generator, person: Person, done: list[str]) -> str | None:
        if self._happens(rng, "mother_missing", 1.4 if person.born.year < 1960 else 1.0):
            done.append("mother_name:mother_missing")
            return None
        name = (person.registered_mother or person.mother).lower()
        tokens = name.split()
        if self._happens(rng, "mother_nickname"):
            short = use_nickname(rng, tokens, person) or drop_tokens(rng, tokens, person)
            tokens = self._note(done, "mother_name:mother_nickname", short, tokens)
        if self._happens(rng, "mother_variant"):
            at = int(rng.integers(len(tokens)))
            changed = respell(rng, tokens[at], person) if rng.random() < 0.7 else None
            changed = changed or typing_error(rng, tokens[at], person)
            tokens = list(tokens)
            tokens[at] = self._note(done, "mother_name:mother_variant", changed, tokens[at])
        return " ".join(tokens)


def _capitalised(name: str) -> str:
    return " ".join(word.capitalize() for word in name.split())
