"""Attacks on our own encodings: what a listener, a thief of an index, a key holder and a curious member would learn.

The thief's statistics are the very tables the population was drawn from, and the rules are public: a real thief knows
names less well. Every attack is a simple one; a better one learns more. The figures are floors under what leaks.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.match import bench_keys, build_indexes, clients, open_indexes
from benchmarks.populations import TODAY, Population, generate
from matching.at_rest import KEY_BYTES, AtRestKey
from matching.encoding import FilterEncoder, QueryEncoder, bigrams, filter_words, near_forms
from matching.errors import FieldValueError
from matching.fields import FIRST_YEAR, parse_registry_date
from matching.names import expand_word, parse_name
from matching.phonetics import token_forms
from matching.places import resolve_place
from matching.question import HANDLE_BYTES, NameQuery
from matching.reference import REFERENCE_PERSONS, token_weight
from matching.schema import NAME_LEVELS, PERSON_SCHEMA
from matching.search import CODE_SAME, DATE_SAME, DATE_YEAR, PLACE_SAME, PLACE_SAME_REGENCY, search
from matching.tables import read_table
from matching.weights import EXACT_UP_TO, load_model
from node.messages import NONCE_BYTES, PSEUDONYM_BYTES, Answered, Handle, Purpose, QuestionHeader
from node.rpc.wire import write_answer, write_question

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matching.index import EncodedIndex
    from matching.keys import FieldKeys

    Floats = NDArray[np.float64]

PROVINCE: Final = "33"
CLIENTS: Final = 400
ASKED_ABOUT: Final = 200  # persons a curious member asks about, registered and not
HALF: Final = 256
POSITIONS: Final = 3  # set by every bigram, as the schema says
SURE: Final = 2.0  # log-likelihood by which a guess must beat the next one before patterns are learnt from it
ROUNDS: Final = 5
GRAM_SEEN: Final = 0.6  # a position may be a bigram's when so many of the tokens that hold the bigram have it
SURE_AT_LEAST: Final = 40  # the surest guesses are learnt from in any case
COMMON_NAMES: Final = 4_000  # tried where the rarity byte does not narrow the choice: four fifths of all tokens borne
KNOWN_TOKENS: Final = 60  # to a thief who has met some of the registered
NEAR_YEARS: Final = 2.0  # over how many years names are taken for the same fashion
EVERYBODY: Final = 0.2  # share of names that any year may have
FEW: Final = 1e-3
FEW_FORMS: Final = 8.0  # log-likelihood lost at most by a number of near forms that does not fit
NO_GUESS: Final = -1e9  # its log-likelihood
SLIP: Final = 2.0  # log-likelihood gained by a reading that is one slip from the reading of a token that is
SPREAD: Final = 1.3  # of the log of a token's frequency, from the country's table to one province


@dataclass(frozen=True)
class Finding:
    """One figure: who learns what, as a share or a number, and what to make of it."""

    attacker: str
    what: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Target:
    """What is attacked, and the truth. public: another population, drawn alike, for the thief to know."""

    population: Population
    public: Population
    index: EncodedIndex
    keys: FieldKeys
    files: Path
    """The same index as a node keeps it on its disk: sealed."""


# --- What the thief knows -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Public:
    """The public name table by spelling: share of persons who bear it, share of women among them, rarity, bigrams.

    near: near forms of a token that is spelt so.
    """

    spellings: tuple[str, ...]
    share: Floats
    women: Floats
    weight: NDArray[np.int64]
    grams: tuple[frozenset[str], ...]
    spelling_grams: NDArray[np.int64]
    sound_grams: NDArray[np.int64]
    near: tuple[frozenset[str], ...]
    near_forms: NDArray[np.int64]


@cache
def public_names() -> Public:
    """Return name_tokens.tsv as a thief would count it, by the public rules."""
    counts: dict[str, list[float]] = {}
    example: dict[str, str] = {}
    for token, n_f, n_m, *_ in read_table("name_tokens.tsv"):
        for part in expand_word(token.replace("'", "").replace("-", "")):
            spelling = token_forms(part).spelling
            pair = counts.setdefault(spelling, [0.0, 0.0])
            pair[0] += int(n_f)
            pair[1] += int(n_m)
            example.setdefault(spelling, part)
    both = np.array([sum(pair) for pair in counts.values()])
    near = tuple(frozenset(near_forms(example[spelling])) for spelling in counts)
    return Public(
        spellings=tuple(counts),
        share=both / REFERENCE_PERSONS,
        women=np.array([pair[0] for pair in counts.values()]) / both,
        weight=np.array([token_weight(example[spelling]) for spelling in counts]),
        grams=tuple(frozenset(bigrams(spelling)) for spelling in counts),
        spelling_grams=np.array([len(bigrams(spelling)) for spelling in counts]),
        sound_grams=np.array([len(bigrams(token_forms(example[spelling]).sound)) for spelling in counts]),
        near=near,
        near_forms=np.array([len(forms) for forms in near]),
    )


@dataclass(frozen=True)
class Stolen:
    """A stolen index as the thief sees it, tokens with equal filters taken for one.

    bits: (symbols, 256) of the spelling half. sound_bits: set bits of the other half. weight: the rarity byte.
    persons: how many bear each. first_sex: share of them with the sex of the more frequent value.
    of_name: symbols of each distinct name. names: the name's number of every person. near_forms: how many each has;
    slips: pairs of symbols with a near form in common.
    """

    bits: NDArray[np.bool_]
    sound_bits: NDArray[np.int64]
    weight: NDArray[np.int64]
    persons: NDArray[np.int64]
    first_sex: Floats
    of_name: tuple[NDArray[np.int64], ...]
    names: NDArray[np.int64]
    near_forms: NDArray[np.int64]
    slips: NDArray[np.int64]
    symbol_of: Mapping[bytes, int] = field(repr=False)

    def women_first(self, public: Public) -> bool:
        """Tell which sex the more frequent value is, by the women among table names of each token's rarity."""
        borne = np.bincount(public.weight, weights=public.share, minlength=256)
        women = np.bincount(public.weight, weights=public.share * public.women, minlength=256)
        top = np.argsort(-self.persons, kind="stable")[:300]
        expected = (women / np.maximum(borne, 1e-12))[self.weight[top]]
        return bool(np.corrcoef(self.first_sex[top], expected)[0, 1] >= 0)


def steal(index: EncodedIndex) -> Stolen:
    """Read an index folder as anybody can, without a key."""
    filters = np.asarray(index.array("name.filters"))
    distinct, first, symbol = np.unique(filters, axis=0, return_index=True, return_inverse=True)
    offsets, tokens = index.array("name.offsets"), index.array("name.tokens")
    of_name = tuple(np.unique(symbol[tokens[offsets[name] : offsets[name + 1]]]) for name in range(len(offsets) - 1))
    rows = index.numbers()
    names = rows[PERSON_SCHEMA.field_names.index("name")].astype(np.int64)
    sexes = rows[PERSON_SCHEMA.field_names.index("sex")]
    common = int(np.bincount(sexes[sexes > 0]).argmax())
    persons, of_first = np.zeros(len(distinct), np.int64), np.zeros(len(distinct))
    for name, sex in zip(names.tolist(), sexes.tolist(), strict=True):
        persons[of_name[name]] += 1
        of_first[of_name[name]] += sex == common
    forms, owners = np.asarray(index.array("name.near")), symbol[np.asarray(index.array("name.near_tokens"))]
    half = np.ascontiguousarray(distinct[:, : HALF // 64].astype("<u8")).view(np.uint8)
    return Stolen(
        bits=np.unpackbits(half, axis=1, bitorder="little").astype(bool),
        sound_bits=np.bitwise_count(distinct[:, HALF // 64 :]).sum(axis=1, dtype=np.int64),
        weight=np.asarray(index.array("name.weights"))[first].astype(np.int64),
        persons=persons,
        first_sex=of_first / np.maximum(persons, 1),
        of_name=of_name,
        names=names,
        near_forms=np.bincount(index.array("name.near_tokens"), minlength=len(filters))[first],
        slips=_pairs(forms, owners),
        symbol_of={row.astype("<u8").tobytes(): number for number, row in enumerate(distinct)},
    )


def _pairs(forms: NDArray[np.uint64], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs of different owners of one form, (pairs, 2), each in both directions. forms: ascending."""
    starts = np.flatnonzero(np.append(True, forms[1:] != forms[:-1])) if len(forms) else np.zeros(0, np.int64)
    found = {
        (int(one), int(other))
        for group in np.split(owners, starts[1:])
        for one in group
        for other in group
        if one != other
    }
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 2)


# --- The thief's attacks --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guess:
    """Best guesses by symbol: (symbols, k) numbers of public spellings, likeliest first; -1 where there is none.

    fit: (symbols, k) their log-likelihoods.
    """

    ranked: NDArray[np.int64]
    fit: Floats

    @property
    def margin(self) -> Floats:
        """Log-likelihood of each first guess over the second; a lone one is sure."""
        if self.fit.shape[1] == 1:
            return np.where(self.ranked[:, 0] >= 0, np.inf, 0.0)
        return np.asarray(self.fit[:, 0] - self.fit[:, 1])

    @property
    def first(self) -> NDArray[np.int64]:
        """The likeliest of each symbol."""
        return self.ranked[:, 0]


def by_rank(stolen: Stolen, public: Public) -> Guess:
    """Align tokens with the table by frequency alone: the n-th most frequent with the n-th most common."""
    out = np.full((len(stolen.persons), 1), -1)
    order, common = np.argsort(-stolen.persons, kind="stable"), np.argsort(-public.share, kind="stable")
    count = min(len(order), len(common))
    out[order[:count], 0] = common[:count]
    return Guess(out, np.zeros(out.shape))


def by_features(stolen: Stolen, public: Public, *, rarity: bool) -> Guess:
    """Align by frequency, sex of the bearers, number of set bits; and by the rarity byte beside them, or not."""
    return _ranked(stolen, public, lambda symbols, names: _features(stolen, public, symbols, names), rarity=rarity)


def by_patterns(stolen: Stolen, public: Public, start: Guess, *, rarity: bool, lengths: bool = False) -> Guess:
    """Learn from the surest guesses which bits each bigram sets, read all tokens with that, and learn again.

    lengths: by how many near forms a token has, too: one for each letter, but for doubled ones, and one more.
    """
    guess = start
    for _ in range(ROUNDS):
        expected = _expected_bits(stolen, public, guess)
        log_set, log_clear = np.log(expected).astype(np.float32), np.log1p(-expected).astype(np.float32)

        def fits(
            symbols: NDArray[np.int64],
            names: NDArray[np.int64],
            log_set: NDArray[np.float32] = log_set,
            log_clear: NDArray[np.float32] = log_clear,
        ) -> Floats:
            there = stolen.bits[symbols].astype(np.float32)
            pattern = there @ log_set[names].T + (1 - there) @ log_clear[names].T
            found = pattern.astype(np.float64) + _features(stolen, public, symbols, names)
            return np.asarray(found + _forms_fit(stolen, public, symbols, names) if lengths else found)

        guess = _ranked(stolen, public, fits, rarity=rarity)
    return guess


def _features(stolen: Stolen, public: Public, symbols: NDArray[np.int64], names: NDArray[np.int64]) -> Floats:
    """Return how well counts, sexes and set bits of symbols fit public spellings, (symbols, names) log-likelihoods."""
    expected = len(stolen.names) * public.share[names]
    # Fashions of a province stretch a count; a name too rare to be expected here at all is a poor guess.
    off = np.log(stolen.persons[symbols] + 0.5)[:, None] - np.log(expected + 0.5)
    score = -0.5 * (off / SPREAD) ** 2 + np.log(-np.expm1(-expected))
    women = stolen.first_sex if stolen.women_first(public) else 1 - stolen.first_sex
    chance = np.sqrt(0.25 / np.maximum(stolen.persons[symbols], 1)) + 0.1
    score -= 0.5 * ((women[symbols][:, None] - public.women[names]) / chance[:, None]) ** 2
    for observed, draws in (
        (stolen.bits[symbols].sum(axis=1), 3 * public.spelling_grams[names]),
        (stolen.sound_bits[symbols], 3 * public.sound_grams[names] + 12),
    ):
        likely = HALF * (1 - (1 - 1 / HALF) ** draws)
        score -= 0.5 * ((observed[:, None] - likely) / 1.5) ** 2
    return np.asarray(score, dtype=np.float64)


def _forms_fit(stolen: Stolen, public: Public, symbols: NDArray[np.int64], names: NDArray[np.int64]) -> Floats:
    """Return how well numbers of near forms fit: equal filters may be of words of other lengths, so none rules out."""
    off = stolen.near_forms[symbols][:, None] - public.near_forms[names]
    return np.asarray(-np.minimum(FEW_FORMS, 4.0 * off**2), dtype=np.float64)


def by_slips(stolen: Stolen, public: Public, guess: Guess) -> Guess:
    """Choose among the best guesses anew: what lies one slip apart must be read as what lies one slip apart."""
    fit = guess.fit.copy()
    for one, other in stolen.slips.tolist():
        read = guess.ranked[other, 0]
        if read >= 0:
            forms = public.near[read]
            fit[one] += [SLIP * bool(each >= 0 and forms & public.near[each]) for each in guess.ranked[one].tolist()]
    order = np.argsort(-fit, axis=1, kind="stable")
    return Guess(np.take_along_axis(guess.ranked, order, axis=1), np.take_along_axis(fit, order, axis=1))


def _expected_bits(stolen: Stolen, public: Public, guess: Guess) -> Floats:
    """Return the chance of every bit for every public spelling, by what was learnt of its bigrams."""
    grams = {gram: number for number, gram in enumerate(sorted(frozenset[str]().union(*public.grams)))}
    held, seen = np.zeros((len(grams), HALF)), np.zeros(len(grams))
    least = min(SURE, float(np.sort(guess.margin)[-min(SURE_AT_LEAST, len(guess.margin))]))
    for symbol in np.flatnonzero((guess.margin >= least) & (guess.first >= 0)):
        numbers = [grams[gram] for gram in public.grams[guess.first[symbol]]]
        held[numbers] += stolen.bits[symbol]
        seen[numbers] += 1
    share = held / np.maximum(seen, 1)[:, None]
    # The schema is public: a bigram sets three positions. One seldom seen may set any.
    third = np.sort(share, axis=1)[:, -POSITIONS][:, None]
    own = np.where((share >= GRAM_SEEN) & (share >= third), 0.97, 0.002)
    own[seen < 2] = POSITIONS / HALF
    clear = np.log1p(-own)
    missing = np.array([clear[[grams[gram] for gram in each]].sum(axis=0) for each in public.grams])
    return np.asarray(np.clip(1 - np.exp(missing), 0.01, 0.99))


def _ranked(
    stolen: Stolen,
    public: Public,
    score: Callable[[NDArray[np.int64], NDArray[np.int64]], Floats],
    *,
    rarity: bool,
    keep: int = 5,
) -> Guess:
    """Rank public spellings for every symbol: those of equal rarity, or, without the rarity byte, common ones."""
    out, fits = np.full((len(stolen.persons), keep), -1), np.full((len(stolen.persons), keep), NO_GUESS)
    everything = np.arange(len(public.spellings))
    groups = (
        [
            (np.flatnonzero(stolen.weight == each), everything[public.weight == each])
            for each in np.unique(stolen.weight)
        ]
        if rarity
        else [(np.arange(len(stolen.persons)), np.argsort(-public.share, kind="stable")[:COMMON_NAMES])]
    )
    for symbols, names in groups:
        for start in range(0, len(symbols) if len(names) else 0, 256):
            part = symbols[start : start + 256]
            fit = score(part, names)
            best = np.argpartition(-fit, keep, axis=1)[:, :keep] if len(names) > keep else np.argsort(-fit, axis=1)
            best = np.take_along_axis(best, np.argsort(-np.take_along_axis(fit, best, axis=1), axis=1), axis=1)
            out[part, : best.shape[1]] = names[best]
            fits[part, : best.shape[1]] = np.take_along_axis(fit, best, axis=1)
    return Guess(out, fits)


# --- Measuring the thief --------------------------------------------------------------------------------------------


def true_spellings(target: Target, stolen: Stolen) -> list[str | None]:
    """Return what every symbol stands for; None for an initial."""
    encoder = FilterEncoder(PERSON_SCHEMA.field("name"), target.keys)
    truth: list[str | None] = [None] * len(stolen.persons)
    for raw in set(target.population.registry["name"].drop_nulls()):
        parsed = parse_name(raw)
        for token in {*parsed.tokens, *(token for alias in parsed.aliases for token in alias)}:
            number = stolen.symbol_of.get(filter_words([encoder.any(token)])[0].astype("<u8").tobytes())
            if number is not None and len(token) > 1:
                truth[number] = token_forms(token).spelling
    return truth


def read_names(stolen: Stolen, guess: Guess, truth: Sequence[str | None], public: Public) -> dict[str, float]:
    """Return which share of tokens and of persons a guess reads right."""
    known = [number for number, spelling in enumerate(truth) if spelling is not None]
    named = [[public.spellings[each] if each >= 0 else None for each in row] for row in guess.ranked.tolist()]
    right = np.array([truth[number] is not None and named[number][0] == truth[number] for number in range(len(truth))])
    among = [truth[number] in named[number] for number in known]
    whole = [bool(symbols.size) and bool(right[symbols].all()) for symbols in stolen.of_name]
    some = [bool(right[symbols].any()) for symbols in stolen.of_name]
    return {
        "tokens": float(np.mean(right[known])),
        "tokens, among five guesses": float(np.mean(among)),
        "persons, the whole name": float(np.mean([whole[name] for name in stolen.names])),
        "persons, a token of it": float(np.mean([some[name] for name in stolen.names])),
    }


def thief_of_files(target: Target) -> list[Finding]:
    """Attack a stolen index as it lies on the disk, without the node's own key."""
    who = "thief of an index's files"
    manifest = json.loads((target.files / "manifest.json").read_bytes().rpartition(b"}")[0] + b"}")
    persons, tokens = manifest["persons"], manifest["files"]["name.filters"]["shape"][0]
    content = b"".join(path.read_bytes() for path in sorted(target.files.iterdir()) if path.name != "manifest.json")
    blocks = Counter(content[start : start + 16] for start in range(0, len(content) - 15, 16))
    again = sum(count for count in blocks.values() if count > 1) / blocks.total()
    names = Counter(name for name in target.population.registry["name"].drop_nulls())
    return [
        Finding(who, "persons registered, from the manifest", persons, "persons"),
        Finding(who, "distinct name tokens, from the manifest", tokens, "tokens"),
        Finding(who, "blocks of 16 bytes that occur twice: what frequency attacks live on", again, "share"),
        Finding(
            who,
            "persons, the whole name, by guessing the most frequent one for everybody",
            names.most_common(1)[0][1] / names.total(),
            "share",
        ),
    ]


def thief(target: Target) -> list[Finding]:
    """Attack an index without the linkage key: its files opened with the node's own key, or read from its memory."""
    stolen, public = steal(target.index), public_names()
    truth = true_spellings(target, stolen)
    plain = by_features(stolen, public, rarity=False)
    rare = by_features(stolen, public, rarity=True)
    patterns = by_patterns(stolen, public, rare, rarity=True)
    lengths = by_patterns(stolen, public, rare, rarity=True, lengths=True)
    guesses = {
        "frequency alone": by_rank(stolen, public),
        "frequency, sex, set bits": plain,
        "those and the rarity byte": rare,
        "those, and bit patterns of bigrams": patterns,
        "those, and lengths from near forms": lengths,
        "those, and who is one slip apart": by_slips(stolen, public, lengths),
        "all but the rarity byte": by_patterns(stolen, public, plain, rarity=False),
        "all but the rarity byte, 60 tokens known": by_patterns(
            stolen, public, _known_beforehand(stolen, truth, public), rarity=False
        ),
        "all but the rarity byte, and lengths": by_patterns(stolen, public, plain, rarity=False, lengths=True),
    }
    notes = {"all but the rarity byte": "this start is too weak to learn patterns from; no proof that none is better"}
    found = [
        Finding("thief of an opened index", f"{what}, by {how}", share, "share", notes.get(how, ""))
        for how, guess in guesses.items()
        for what, share in read_names(stolen, guess, truth, public).items()
    ]
    years = read_years(target, stolen, patterns, public)
    for what, share in zip(("year of birth", "year of birth within three"), years, strict=True):
        found.append(Finding("thief of an opened index", f"persons, {what}, by the names of each year", share, "share"))
    places = read_places(target)
    found.append(Finding("thief of an opened index", "persons, birthplace, by frequency alone", places, "share"))
    titles = read_titles(target)
    found.append(Finding("thief of an opened index", "persons with titles, all of them, by frequency", titles, "share"))
    return found


def _known_beforehand(stolen: Stolen, truth: Sequence[str | None], public: Public) -> Guess:
    """Return what a thief knows who can name the bearers of the most frequent tokens."""
    numbers = {spelling: number for number, spelling in enumerate(public.spellings)}
    ranked = np.full((len(truth), 1), -1)
    for symbol in np.argsort(-stolen.persons, kind="stable")[:KNOWN_TOKENS].tolist():
        ranked[symbol, 0] = numbers.get(truth[symbol] or "", -1)
    return Guess(ranked, np.zeros(ranked.shape))


def read_years(target: Target, stolen: Stolen, guess: Guess, public: Public) -> tuple[float, float]:
    """Read keyed years by which of the names just read are borne in them.

    Returns the share of persons whose year is right, and of those whose year is at most three off.
    """
    spelling_number = {spelling: number for number, spelling in enumerate(public.spellings)}
    known = _years_by_name(target.public, spelling_number)
    dates = target.index.numbers()[PERSON_SCHEMA.field_names.index("birth_date")]
    values = np.asarray(target.index.array("birth_date.values"))[dates, 0]
    tokens = np.unique(values[values != 0])
    seen = np.zeros((len(tokens), len(public.spellings)))
    at = np.searchsorted(tokens, values)
    for person, name in enumerate(stolen.names.tolist()):
        if values[person]:
            read = guess.first[stolen.of_name[name]]
            seen[at[person], read[read >= 0]] += 1
    years = sorted(known)
    counted = np.array([known[year] for year in years])
    # Fashions change slowly: a year's names are also its neighbours', and a little of everybody's.
    near = np.exp(-0.5 * ((np.array(years)[:, None] - np.array(years)) / NEAR_YEARS) ** 2)
    everybody = counted.sum(axis=0) + FEW
    of_year = near @ counted
    table = (1 - EVERYBODY) * of_year / of_year.sum(axis=1, keepdims=True) + EVERYBODY * everybody / everybody.sum()
    score = seen @ np.log(table).T
    size = np.log(counted.sum(axis=1) + 1.0) - np.log(counted.sum())
    score -= 0.5 * ((np.log(seen.sum(axis=1) + 1.0) - np.log(seen.sum()))[:, None] - size) ** 2
    named = dict(zip(tokens.tolist(), (years[each] for each in score.argmax(axis=1)), strict=True))
    right = {target.keys.token("birth_date", "year", str(year)): year for year in range(FIRST_YEAR, TODAY.year + 1)}
    off = np.array([abs(named[token] - right[token]) for token in values[values != 0].tolist()])
    return float(np.mean(off == 0)), float(np.mean(off <= 3))


def _years_by_name(population: Population, numbers: Mapping[str, int]) -> dict[int, Floats]:
    found: dict[int, Floats] = {}
    for name, born in population.registry.select("name", "birth_date").drop_nulls().iter_rows():
        counts = found.setdefault(parse_registry_date(born).year, np.zeros(len(numbers)))
        for token in parse_name(name).tokens:
            number = numbers.get(token_forms(token).spelling)
            if number is not None:
                counts[number] += 1
    return found


def read_places(target: Target) -> float:
    """Align birthplaces with another population's by frequency; return the share of persons placed right."""
    common = Counter(resolve_place(raw).text for raw in target.public.registry["birthplace"].drop_nulls())
    truth = [resolve_place(raw).text for raw in target.population.registry["birthplace"].drop_nulls()]
    order = [text for text, _ in Counter(truth).most_common()]
    # The index's own order of frequency is that of the truth: a value is a text resolved.
    named = dict(zip(order, (text for text, _ in common.most_common()), strict=False))
    return sum(named.get(text) == text for text in truth) / max(len(truth), 1)


def read_titles(target: Target) -> float:
    """Align titles with another population's by frequency; return the share of persons with any who are read right."""

    def counted(population: Population) -> Counter[tuple[str, ...]]:
        names = population.registry["name"].drop_nulls()
        return Counter(titles for name in names if (titles := tuple(sorted(parse_name(name).titles))))

    truth = counted(target.population)
    named = dict(zip(dict(truth.most_common()), dict(counted(target.public).most_common()), strict=False))
    return sum(count for titles, count in truth.items() if named.get(titles) == titles) / max(truth.total(), 1)


# --- The key holder -------------------------------------------------------------------------------------------------


def key_holder(target: Target) -> list[Finding]:
    """Read questions, and a stolen index, with the epoch's key and the shipped names as a dictionary."""
    encoder = FilterEncoder(PERSON_SCHEMA.field("name"), target.keys)
    dictionary: dict[bytes, str] = {}
    for token, *_ in read_table("name_tokens.tsv"):
        for part in expand_word(token.replace("'", "").replace("-", "")):
            if len(part) > 1:
                mask = encoder.token(token_forms(part))
                dictionary.setdefault(filter_words([mask])[0].tobytes(), token_forms(part).spelling)
    queries = QueryEncoder(target.keys)
    tokens = read = questions = whole = 0
    for _, client in clients(target.population.queries):
        try:
            asked = queries.encode(client, TODAY).fields["name"]
        except FieldValueError:
            continue
        assert isinstance(asked, NameQuery)
        hits = [token.variants[0].tobytes() in dictionary for token in asked.tokens if not token.initial]
        tokens, read = tokens + len(hits), read + sum(hits)
        questions, whole = questions + 1, whole + all(hits)
    stolen = steal(target.index)
    truth = true_spellings(target, stolen)
    inside = {stolen.symbol_of[key] for key in stolen.symbol_of if np.frombuffer(key, "<u8").tobytes() in dictionary}
    known = [number for number, spelling in enumerate(truth) if spelling is not None]
    persons = [stolen.of_name[name] for name in stolen.names]
    who = "key holder"
    note = f"{len(dictionary):,} spellings of the shipped table; a longer list reads more"
    return [
        Finding(who, "tokens of a received question's name", read / max(tokens, 1), "share", note),
        Finding(who, "received questions, the whole name", whole / max(questions, 1), "share"),
        Finding(
            who,
            "dates, places and sexes of a question or an index",
            1.0,
            "share",
            "not measured: every value can be tried",
        ),
        Finding(who, "tokens of a stolen index", float(np.mean([n in inside for n in known])), "share"),
        Finding(
            who,
            "persons of a stolen index, the whole name",
            float(np.mean([bool(inside.issuperset(symbols.tolist())) for symbols in persons])),
            "share",
        ),
    ]


# --- The listener ---------------------------------------------------------------------------------------------------


def listener(target: Target) -> list[Finding]:
    """Measure what the sizes of messages tell whoever sees only TLS."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    deadline = now + timedelta(seconds=10)
    header = QuestionHeader(bytes(NONCE_BYTES), "case", Purpose.RETURN_HOME, bytes(PSEUDONYM_BYTES), now, deadline)
    model, encoder = load_model(), QueryEncoder(target.keys)
    by_size: defaultdict[int, Counter[int]] = defaultdict(Counter)
    answers: set[int] = set()
    for _, client in clients(target.population.queries):
        try:
            query = encoder.encode(client, TODAY)
        except FieldValueError:
            continue
        asked = query.fields["name"]
        assert isinstance(asked, NameQuery)
        by_size[len(write_question(header, query))][len(asked.tokens)] += 1
        result = search(target.index, query, model)
        handles = tuple(Handle(bytes(HANDLE_BYTES), place) for place, _ in result.candidates)
        message = write_answer(
            Answered(result.evidence, handles),
            schema=PERSON_SCHEMA,
            epoch=target.keys.epoch,
            province=PROVINCE,
            request_sha256=bytes(32),
            now=now,
        )
        answers.add(message.ByteSize())
    questions = sum(each.total() for each in by_size.values())
    guessed = sum(each.most_common(1)[0][1] for each in by_size.values()) / questions
    blind = sum(by_size.values(), Counter[int]()).most_common(1)[0][1] / questions
    who = "listener outside TLS"
    return [
        Finding(who, "any field of any person", 0.0, "share", "not measured: sees who asks whom, when, and sizes"),
        Finding(who, "sizes of an answer", float(len(answers)), "sizes", f"over {questions} questions"),
        Finding(
            who, "sizes of a question", float(len(by_size)), "sizes", f"{min(by_size):,} to {max(by_size):,} bytes"
        ),
        Finding(who, "number of words in the name, by size", guessed, "share", f"a blind guess: {blind:.2f}"),
    ]


# --- The curious member ---------------------------------------------------------------------------------------------

_BEST_NAME: Final = NAME_LEVELS - 1
_AGREES: Final = {
    "name": frozenset({_BEST_NAME}),
    "mother_name": frozenset({_BEST_NAME}),
    "birth_date": frozenset({DATE_SAME, DATE_YEAR}),
    "birthplace": frozenset({PLACE_SAME_REGENCY, PLACE_SAME}),
    "sex": frozenset({CODE_SAME}),
}
_DESCRIBED: Final = {
    "the name": (),
    "name and date of birth": ("birth_date",),
    "everything but the mother": ("birth_date", "sex", "birthplace"),
    "everything": ("birth_date", "sex", "birthplace", "mother_name"),
}


class _Member:
    """Asks one registry and reads nothing but its answer."""

    def __init__(self, target: Target) -> None:
        self._index = target.index
        self._encoder = QueryEncoder(target.keys)
        self._model = load_model()
        self.asked = 0

    def count(self, facts: Mapping[str, str | None]) -> int:
        """Ask with some facts; return how many persons the answer says agree in all of them."""
        query = self._encoder.encode_record(facts, TODAY)
        self.asked += 1
        evidence = search(self._index, query, self._model).evidence
        total = 0
        for levels, count in zip(evidence.class_levels.tolist(), evidence.class_counts.tolist(), strict=True):
            agree = (levels[PERSON_SCHEMA.field_names.index(name)] in _AGREES[name] for name in facts)
            total += count if all(agree) else 0
        return int(total)

    def year(self, facts: Mapping[str, str | None]) -> int | None:
        """Halve the years until one is left; None when the answers never say yes."""
        first, last = FIRST_YEAR, TODAY.year
        while first < last:
            middle = (first + last) // 2
            if self.count({**facts, "birth_date": _band(first, middle)}):
                last = middle
            else:
                first = middle + 1
        return first if self.count({**facts, "birth_date": str(first)}) else None


def _band(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _people(population: Population, seed: int) -> list[dict[str, str | None]]:
    """Draw persons of whom everything is known."""
    whole = population.registry.drop_nulls().sample(fraction=1.0, shuffle=True, seed=seed)
    drawn = whole.select(list(_AGREES)).head(ASKED_ABOUT).iter_rows(named=True)
    return [row for row in drawn if parse_name(row["name"] or "").tokens]


def member(target: Target, seed: int) -> list[Finding]:
    """Ask about persons who are registered and who are not, each described in full or in part."""
    asking, who = _Member(target), "curious member"
    inside, outside = _people(target.population, seed), _people(target.public, seed)
    found = []
    for label, fields in _DESCRIBED.items():
        hits, strangers = (
            [asking.count({name: person[name] for name in ("name", *fields)}) for person in people]
            for people in (inside, outside)
        )
        note = f"and of {np.mean(np.array(strangers) > 0):.2f} of strangers described alike"
        share = float(np.mean(np.array(hits) > 0))
        found.append(Finding(who, f"registered persons confirmed in one question, by {label}", share, "share", note))
        if not fields:
            exact = float(np.mean([0 < count <= EXACT_UP_TO for count in hits]))
            found.append(Finding(who, "names so rare that the count is exact", exact, "share", "4 persons or fewer"))
    asking.asked = 0
    right = 0
    people = inside[: ASKED_ABOUT // 4]
    for person in people:
        known = {name: person[name] for name in ("name", "sex", "birthplace", "mother_name")}
        right += asking.year(known) == parse_registry_date(person["birth_date"] or "").year
    found += [
        Finding(who, "year of birth found, all but the date known", right / len(people), "share"),
        Finding(who, "questions asked for that, a person", asking.asked / len(people), "questions"),
    ]
    return found


# --- All of them ----------------------------------------------------------------------------------------------------


ATTACKS: Final[dict[str, Callable[[Target, int], list[Finding]]]] = {
    "listener": lambda target, _: listener(target),
    "thief of files": lambda target, _: thief_of_files(target),
    "thief": lambda target, _: thief(target),
    "key holder": lambda target, _: key_holder(target),
    "member": member,
}


def attack(persons: int, seed: int, folder: Path, now: datetime, progress: Callable[[], None]) -> list[Finding]:
    """Make a registry and its index in a folder, attack it; progress is called after each of ATTACKS."""
    target_made = generate(persons, min(CLIENTS, persons), "base", seed, provinces=(PROVINCE,))
    public = generate(persons, 0, "base", seed + 1, provinces=(PROVINCE,))
    keys = bench_keys()
    build_indexes(target_made.registry, folder / "open", keys, now)
    build_indexes(target_made.registry, folder / "sealed", keys, now, at_rest=AtRestKey(secrets.token_bytes(KEY_BYTES)))
    found: list[Finding] = []
    with open_indexes(folder / "open", keys) as indexes:
        target = Target(target_made, public, indexes[PROVINCE], keys, folder / "sealed" / PROVINCE)
        for each in ATTACKS.values():
            found += each(target, seed)
            progress()
    return found


def write(out: Path, found: Sequence[Finding], facts: Mapping[str, object]) -> None:
    """Write leakage.json: the findings, and what they were measured on."""
    out.mkdir(parents=True, exist_ok=True)
    document = {**facts, "findings": [asdict(finding) for finding in found]}
    (out / "leakage.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
