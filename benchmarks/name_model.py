# ruff: noqa: SIM905 - lists of short words read better as words
"""Draws Indonesian personal names by custom, sex and birth cohort, from the shipped name tables.

A name is a row of token numbers. Numbers, not strings, so that a million names are a few gathers.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Ids = NDArray[np.int32]
    Floats = NDArray[np.float64]

WORDS: Final = 7  # longest name drawn, in tokens
NO_TOKEN: Final = -1
FIRST, MIDDLE, LAST, ONLY = range(4)
FEMALE, MALE = 0, 1

# Customs of naming, and the provinces whose candidates show which tokens belong to them.
CUSTOMS: Final[dict[str, tuple[str, ...]]] = {
    "jawa": ("33", "34", "35"),
    "sunda": ("32", "36"),
    "betawi": ("31",),
    "madura": ("35",),
    "lampung": ("18",),
    "sasak": ("52",),
    "bali": ("51",),
    "ntt": ("53",),
    "batak": ("31", "18"),
    "umum": ("00", "18", "31", "32", "33", "34", "35", "36", "51", "52", "53"),
}
CUSTOM_NAMES: Final = tuple(CUSTOMS)
# Share of a name's tokens drawn from the province's own small table; the rest comes from the large one, tilted.
OWN_TABLE_SHARE: Final = {"bali": 0.5, "ntt": 0.85, "sasak": 0.3, "batak": 0.1, "umum": 0.0}
DEFAULT_OWN_TABLE_SHARE: Final = 0.15
GROUPS_OF: Final = {
    "jawa": ("jawa",), "sunda": ("sunda",), "betawi": ("betawi",), "madura": ("madura",), "lampung": ("lampung",),
    "sasak": ("sasak", "sumbawa_bima"), "bali": ("bali",),
}  # fmt: skip

# First birth years of the naming cohorts: fashions differ between them, hardly within.
COHORTS: Final = (0, 1950, 1970, 1990, 2005)
COHORT_TILT: Final = (-4.0, -3.0, -1.0, 1.5, 2.5)  # how much a cohort likes a modern token over an old one

# Share of one-word names, against the table measured on Java (names of Javanese, mostly).
ONE_WORD_FACTOR: Final = {
    "jawa": 1.0, "madura": 1.0, "sunda": 0.9, "betawi": 0.7, "lampung": 0.8, "sasak": 0.95,
    "bali": 0.0, "ntt": 0.04, "batak": 0.03, "umum": 0.6,
}  # fmt: skip
# Born after the table ends: one-word names go out of use, and since 2022 the rules ask for two words.
LATER_WORDS: Final = ((2002, 0.13, 0.24), (2008, 0.08, 0.25), (2014, 0.05, 0.25), (2022, 0.01, 0.28))

_MODERN = re.compile(
    r"zz|^(ramadh|rizk|rizq|aulia|azz?ahra|zahra|naufal|pratama|alif|daffa|azka|raihan|rayhan|kei|kay|az$)"
    r"|^(nabila|salsabila|aqil|alesha|rafa|rafif|zaki|khanza|queen|putri$|maulana|fatih|al$|varo|ken)"
)
_AGELESS = frozenset(
    "siti sri nur muhammad abdul abd moh m muhamad mohammad ahmad achmad dewi tri dwi eka maria".split()
)
_JAVANESE = re.compile(
    r"^(su|so|wi|wa|po|pa|tu|ti|sa|ka|ki|mu|har|ng|ju|le|se|ra|sl|en|sri|ya|pu|bam|jo|dj)"
    r".*(no|to|di|man|min|jo|yo|rjo|ijan|jan|gi|iran|ati|ti|nah|nem|yem|sih|ni|tun|mi|rah|met|wo|so)$"
)
_BANJAR = re.compile(
    r"^(nor|arb|salasiah|masniah|arpah|aspi)|ansyah$|^(syahrani|anshari|ansari|fansuri|la|wa|andi|daeng)$"
)
_NOT_A_NAME = frozenset("h hj hi hm hjh kh dr drs dra drg ir tb as ec se sh st spd prof rm rr ra kh tn ny st".split())

# Rare names that no table of frequent tokens holds: the beginning of one name with the end of another.
RARE_NAMES: Final = 80_000  # per sex
RARE_SHARE: Final = {FIRST: 0.01, MIDDLE: 0.01, LAST: 0.03, ONLY: 0.24}
_PARTS: Final = re.compile(r"([^aeiou]*[aeiou]+[^aeiou]+)([aeiou]+[^aeiou]+.*)$")  # the cut is before the second vowel
RARE_CUSTOMS: Final = frozenset({"jawa", "sunda", "madura", "betawi", "lampung", "sasak", "umum"})

_ORDER_NAMES: Final = {
    MALE: (("wayan", "putu", "gede"), ("made", "kadek", "nengah"), ("nyoman", "komang"), ("ketut",)),
    FEMALE: (("wayan", "putu", "luh"), ("made", "kadek", "nengah"), ("nyoman", "komang"), ("ketut",)),
}
_MARKERS: Final = (
    "i", "ni", "gusti", "ida", "bagus", "ayu", "anak", "agung", "dewa", "desak", "wayan", "putu", "gede", "luh", "made",
    "kadek", "nengah", "nyoman", "komang", "ketut", "lalu", "baiq",
)  # fmt: skip
_ORDER_SHARES: Final = (0.36, 0.31, 0.20, 0.13)
_CASTES: Final = {  # tokens, share; the rest carry an order name
    MALE: ((("i", "gusti"), 0.05), (("ida", "bagus"), 0.02), (("anak", "agung"), 0.02), (("i", "dewa"), 0.02)),
    FEMALE: ((("gusti", "ayu"), 0.05), (("ida", "ayu"), 0.02), (("anak", "agung"), 0.02), (("desak",), 0.02)),
}
_BALI_STEMS = (
    "su",
    "wi",
    "ar",
    "dar",
    "mer",
    "ad",
    "pu",
    "ka",
    "suar",
    "suka",
    "budi",
    "arta",
    "mu",
    "ji",
    "wir",
    "yu",
)
_BALI_ENDINGS = {
    MALE: (
        "dana",
        "arta",
        "diana",
        "jana",
        "tama",
        "giarta",
        "nata",
        "darma",
        "wirya",
        "astawa",
        "sana",
        "dia",
        "ditha",
    ),
    FEMALE: ("dani", "artini", "diani", "jani", "tami", "giartini", "nati", "wati", "asih", "astini", "sani", "dewi"),
}


class Bearers(NamedTuple):
    """People who draw their names from the same tables."""

    custom: str
    sex: int
    cohort: int


@dataclass(frozen=True)
class Sampler:
    """Tokens with their cumulative weights."""

    tokens: Ids
    cumulative: Floats

    def draw(self, rng: np.random.Generator, count: int) -> Ids:
        """Draw `count` tokens."""
        at = np.searchsorted(self.cumulative, rng.random(count) * self.cumulative[-1], side="right")
        drawn: Ids = self.tokens[np.minimum(at, len(self.tokens) - 1)]
        return drawn


def read_table(package: str, name: str) -> list[dict[str, str]]:
    """Read one shipped tab-separated table."""
    with files(package).joinpath("data", name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


class NameModel:
    """Token tables of every custom; draws names as rows of token numbers."""

    def __init__(self) -> None:
        rows = [row for row in read_table("matching", "name_tokens.tsv") if _usable(row["token"])]
        self.vocabulary: list[str] = [row["token"] for row in rows]
        self._number: dict[str, int] = {token: number for number, token in enumerate(self.vocabulary)}
        self._groups = self._read_groups()
        self._bali = {
            sex: self._new_tokens([stem + end for stem in _BALI_STEMS for end in _BALI_ENDINGS[sex]])
            for sex in (FEMALE, MALE)
        }
        self._new_tokens(_MARKERS)
        self._counts = self._count(rows)
        self._provinces = self._read_provinces()
        self._modern = self._modernness()
        self._javanese = np.array([len(token) > 3 and bool(_JAVANESE.search(token)) for token in self.vocabulary])
        self._banjar = np.array([bool(_BANJAR.search(token)) for token in self.vocabulary])
        # Last, beyond every table: rare names have no weights, they are drawn from their own pool.
        self._rare = {sex: self._add_rare_names(sex) for sex in (FEMALE, MALE)}
        self._samplers: dict[tuple[Bearers, int], Sampler] = {}
        self._pairs: dict[Bearers, tuple[Floats, Floats]] = {}
        self._words = _word_shares()

    # --- tables -------------------------------------------------------------------------------------------------

    def number(self, token: str) -> int:
        """Return the number of a token of the vocabulary."""
        return self._number[token]

    def _new_tokens(self, names: Sequence[str]) -> Ids:
        for name in names:
            if name not in self._number:
                self._number[name] = len(self.vocabulary)
                self.vocabulary.append(name)
        return np.array([self._number[name] for name in names], np.int32)

    def _count(self, rows: Sequence[Mapping[str, str]]) -> Floats:
        """How often each token of the vocabulary was seen: (sex, position, token)."""
        counts = np.zeros((2, 4, len(self.vocabulary)))
        for position, label in enumerate(("first", "mid", "last", "mono")):
            for sex, letter in enumerate("fm"):
                counts[sex, position, : len(rows)] = [int(row[f"{letter}_{label}"]) for row in rows]
        # A lone M before another name stands for Muhammad; standing elsewhere it is an initial of anything.
        counts[MALE, FIRST, self._number["m"]] *= 0.3
        return counts

    def _add_rare_names(self, sex: int) -> Ids:
        """Put names together from the parts of names that stand alone. The same list in every process."""
        parts = [
            (*match.groups(), count)
            for token, count in zip(self.vocabulary, self._counts[sex, ONLY], strict=False)
            if count and (match := _PARTS.match(token))
        ]
        heads, tails, counts = (pl.Series(column) for column in zip(*parts, strict=True))
        weights = np.cumsum(counts)
        rng = np.random.Generator(np.random.PCG64(sex))
        first, second = (
            np.searchsorted(weights, rng.random(2 * RARE_NAMES) * weights[-1], side="right") for _ in range(2)
        )
        made = (heads.gather(first) + tails.gather(second)).unique(maintain_order=True)
        names = [name for name in made.to_list() if name not in self._number][:RARE_NAMES]
        self.vocabulary += names
        return np.arange(len(self.vocabulary) - len(names), len(self.vocabulary), dtype=np.int32)

    def _read_groups(self) -> dict[tuple[str, int], list[tuple[int, ...]]]:
        groups: dict[tuple[str, int], list[tuple[int, ...]]] = {}
        for row in read_table("benchmarks", "names_by_group.tsv"):
            name = tuple(int(number) for number in self._new_tokens(row["name"].split()))
            groups.setdefault((row["group"], "fm".index(row["sex"])), []).append(name)
        return groups

    def _read_provinces(self) -> dict[str, NDArray[np.float64]]:
        found: defaultdict[str, Floats] = defaultdict(lambda: np.zeros((2, 4, len(self.vocabulary))))
        for row in read_table("matching", "name_tokens_by_province.tsv"):
            number = self._number.get(row["token"])
            if number is None:
                continue
            counts = found[row["prov_code"]]
            for position, label in enumerate(("n_first", "n_mid", "n_last", "n_mono")):
                counts["fm".index(row["sex"]), position, number] += int(row[label])
        return found

    def _modernness(self) -> Floats:
        """0 = worn by the old as their only name, 1 = worn by the young among other names, 0.5 = ageless or unknown."""
        total = self._counts.sum(axis=(0, 1))
        alone = self._counts[:, ONLY].sum(axis=0)
        modern = np.where(total >= 10, 1 - np.minimum(1, 2.5 * alone / np.maximum(total, 1)), 0.5)
        for number, token in enumerate(self.vocabulary):
            if token in _AGELESS:
                modern[number] = 0.5
            elif _MODERN.search(token):
                modern[number] = 2.0
        return modern

    @cache  # noqa: B019 - one model per process
    def _affinity(self, custom: str, sex: int) -> Floats:
        """How much more often people of a custom wear a token than everybody does."""
        own = np.sum([self._provinces[code][sex] for code in CUSTOMS[custom]], axis=0).sum(axis=0)
        every = self._counts[sex].sum(axis=0)
        expected = own.sum() * every / every.sum()
        tilt: Floats = np.clip((own + 0.5) / (expected + 0.5), 0.04, 40.0)
        tilt = np.where(self._banjar, tilt * 0.3, tilt)
        if custom in {"jawa", "lampung"}:
            tilt = np.where(self._javanese, tilt * 4.0, tilt)
        elif custom in {"sunda", "betawi", "madura", "sasak"}:
            tilt = np.where(self._javanese, tilt * 0.6, tilt)
        for group in GROUPS_OF.get(custom, ()):
            for name in self._groups.get((group, sex), ()):
                if len(name) == 1:
                    tilt[name[0]] = max(tilt[name[0]], 3.0)
        return tilt

    def _weights(self, who: Bearers, position: int) -> Floats:
        custom, sex, cohort = who
        tilt = self._affinity(custom, sex)
        fashion = np.exp(COHORT_TILT[cohort] * (self._modern - 0.5))
        shared = self._counts[sex, position].copy()
        if position in {LAST, ONLY}:
            for group in GROUPS_OF.get(custom, ()):
                for name in self._groups.get((group, sex), ()):
                    if len(name) == 1:
                        shared[name[0]] += 8.0
        if position == ONLY:  # the source is one region; over ten provinces the commonest names are less common
            shared **= 0.92
        shared *= tilt * fashion
        own = np.sum([self._provinces[code][sex, position] for code in CUSTOMS[custom]], axis=0) * fashion
        share = OWN_TABLE_SHARE.get(custom, DEFAULT_OWN_TABLE_SHARE) if own.sum() > 0 else 0.0
        weights: Floats = (1 - share) * shared / shared.sum() + (share * own / own.sum() if share else 0.0)
        return weights

    def _sampler(self, who: Bearers, position: int) -> Sampler:
        key = (who, position)
        if key not in self._samplers:
            weights = self._weights(who, position)
            tokens = np.flatnonzero(weights > 0).astype(np.int32)
            self._samplers[key] = Sampler(tokens, np.cumsum(weights[tokens]))
        return self._samplers[key]

    def tokens(self, rng: np.random.Generator, who: Bearers, position: int, count: int) -> Ids:
        """Draw tokens for one position of a name, a few of them rarer than any table knows."""
        drawn = self._sampler(who, position).draw(rng, count)
        if who.custom in RARE_CUSTOMS:
            share = RARE_SHARE[position] * (1.0 if who.cohort < 3 else 0.4)
            rare = np.flatnonzero(rng.random(count) < share)
            pool = self._rare[who.sex]
            # The square of a uniform draw: even rare names are not equally rare.
            drawn[rare] = pool[(rng.random(len(rare)) ** 2 * len(pool)).astype(np.int64)]
        return drawn

    # --- pairs ---------------------------------------------------------------------------------------------------

    @cached_property
    def _pair_table(self) -> dict[int, tuple[Ids, Ids, Floats]]:
        """Per sex: first and second token of the known pairs, sorted by the first, with their counts."""
        table: dict[int, tuple[Ids, Ids, Floats]] = {}
        rows = read_table("matching", "name_bigrams.tsv")
        for sex, letter in enumerate("fm"):
            pairs = sorted(
                (self._number[row["token1"]], self._number[row["token2"]], int(row["n"]))
                for row in rows
                if row["sex"] == letter and row["token1"] in self._number and row["token2"] in self._number
            )
            first, second, count = zip(*pairs, strict=True)
            table[sex] = (np.array(first, np.int32), np.array(second, np.int32), np.array(count, np.float64))
        return table

    def _pair_shares(self, who: Bearers) -> tuple[Floats, Floats]:
        """Cumulative weights of the known pairs; and per token, the chance that a known pair follows it."""
        if who not in self._pairs:
            custom, sex, cohort = who
            first, second, count = self._pair_table[sex]
            liking = self._affinity(custom, sex) * np.exp(COHORT_TILT[cohort] * (self._modern - 0.5))
            last = self._counts[sex, LAST] + self._counts[sex, MIDDLE]
            usual = float((last * liking).sum() / last.sum())
            weight = count * liking[second]
            size = len(self._modern)
            known = np.bincount(first, weight, size)
            heads = self._counts[sex, FIRST] + self._counts[sex, MIDDLE]
            unknown = np.maximum(heads - np.bincount(first, count, size), 0) * usual
            chance = np.zeros(len(self.vocabulary))
            chance[:size] = known / np.maximum(known + unknown, 1e-9)
            self._pairs[who] = (np.cumsum(weight), chance)
        return self._pairs[who]

    def followers(self, rng: np.random.Generator, who: Bearers, position: int, before: Ids) -> Ids:
        """Draw the token after each token of `before`: a known pair as often as pairs are seen, else by position."""
        count = len(before)
        drawn = self.tokens(rng, who, position, count)
        cumulative, chance = self._pair_shares(who)
        paired = np.flatnonzero(rng.random(count) < chance[before])
        if len(paired):
            first, second, _ = self._pair_table[who.sex]
            heads = before[paired]
            start, end = np.searchsorted(first, heads, "left"), np.searchsorted(first, heads, "right")
            low = np.where(start > 0, cumulative[np.maximum(start - 1, 0)], 0.0)
            target = low + rng.random(len(paired)) * (cumulative[end - 1] - low)
            at = np.clip(np.searchsorted(cumulative, target, side="right"), start, end - 1)
            drawn[paired] = second[at]
        return drawn

    # --- names ---------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, custom: Ids, sex: Ids, year: Ids, area: Ids, *, later: bool = True) -> Ids:
        """Draw a name for each person.

        custom: number in CUSTOM_NAMES; sex: FEMALE or MALE; year: of birth; area: clan area (NTT), -1 elsewhere.
        later: names of children born after the tables end may be drawn. Returns (persons, WORDS), NO_TOKEN-padded.
        """
        names = np.full((len(custom), WORDS), NO_TOKEN, np.int32)
        cohort = (np.searchsorted(COHORTS, year, side="right") - 1).astype(np.int32)
        if not later:
            cohort = np.minimum(cohort, 3)
        key = (custom * 2 + sex) * len(COHORTS) + cohort
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        for rows in np.split(order, edges):
            if not len(rows):
                continue
            who = Bearers(CUSTOM_NAMES[int(custom[rows[0]])], int(sex[rows[0]]), int(cohort[rows[0]]))
            if who.custom == "bali":
                names[rows] = self._balinese(rng, who, len(rows))
            elif who.custom == "ntt":
                names[rows] = self._christian_east(rng, who, area[rows])
            elif who.custom == "batak":
                names[rows] = self._batak(rng, who, len(rows))
            else:
                names[rows] = self._plain(rng, who, year[rows])
        return names

    def _plain(self, rng: np.random.Generator, who: Bearers, year: Ids) -> Ids:
        words = self._word_count(rng, who, year)
        names = np.full((len(year), WORDS), NO_TOKEN, np.int32)
        only = np.flatnonzero(words == 1)
        names[only, 0] = self.tokens(rng, who, ONLY, len(only))
        many = np.flatnonzero(words > 1)
        names[many, 0] = self.tokens(rng, who, FIRST, len(many))
        for position in range(1, 5):
            for kind, rows in (
                (MIDDLE, np.flatnonzero(words > position + 1)),
                (LAST, np.flatnonzero(words == position + 1)),
            ):
                if len(rows):
                    names[rows, position] = self.followers(rng, who, kind, names[rows, position - 1])
        if who.custom == "sasak":
            noble = rng.random(len(year)) < 0.07
            names[noble, 1:] = names[noble, :-1]
            names[noble, 0] = self.number("lalu" if who.sex == MALE else "baiq")
        return _without_repeats(names)

    def _word_count(self, rng: np.random.Generator, who: Bearers, year: Ids) -> Ids:
        one, two = self._words[who.sex][np.clip(year, 1900, 2099) - 1900].T
        alone = one * ONE_WORD_FACTOR[who.custom]
        pair = two + (one - alone) * 0.7
        rest = 1 - alone - pair
        edges = np.stack([alone, alone + pair, alone + pair + rest * 0.86, alone + pair + rest * 0.985], axis=1)
        count: Ids = (1 + (rng.random((len(year), 1)) > edges).sum(axis=1)).astype(np.int32)
        return count

    def _balinese(self, rng: np.random.Generator, who: Bearers, count: int) -> Ids:
        _, sex, cohort = who
        names = np.full((count, WORDS), NO_TOKEN, np.int32)
        length = np.zeros(count, np.int64)

        def put(rows: NDArray[np.int64], token: Ids | int) -> None:
            names[rows, length[rows]] = token
            length[rows] += 1

        caste = rng.random(count)
        edge = 0.0
        common = np.ones(count, np.bool_)
        for tokens, share in _CASTES[sex]:
            rows = np.flatnonzero((caste >= edge) & (caste < edge + share))
            edge += share
            common[rows] = False
            for token in tokens:
                put(rows, self.number(token))
        rows = np.flatnonzero(common)
        marked = rows[rng.random(len(rows)) < (0.9, 0.88, 0.8, 0.65, 0.45)[cohort]]
        put(marked, self.number("i" if sex == MALE else "ni"))
        if sex == FEMALE:  # Ni Luh Putu ...
            put(marked[rng.random(len(marked)) < 0.2], self.number("luh"))
        born = rng.choice(4, len(rows), p=_ORDER_SHARES)
        for place, choices in enumerate(_ORDER_NAMES[sex]):
            those = rows[born == place]
            options = np.array([self.number(name) for name in choices], np.int32)
            # The young are Putu, Kadek, Komang where the old are Wayan, Made, Nyoman.
            pick = (rng.random(len(those)) < (0.2 if cohort < 2 else 0.5)).astype(np.int64)
            pick += (pick == 1) & (rng.random(len(those)) < 0.3)
            put(those, options[np.minimum(pick, len(options) - 1)])
        given = rng.random(count)
        everyone = np.arange(count)
        second = everyone[rng.random(count) < (0.08, 0.12, 0.3, 0.7, 0.9)[cohort]]
        put(second, self.tokens(rng, who if cohort < 3 else who._replace(custom="umum"), MIDDLE, len(second)))
        for rows, source in (
            (np.flatnonzero(given < 0.45), "list"),
            (np.flatnonzero((given >= 0.45) & (given < 0.7)), "made"),
            (np.flatnonzero(given >= 0.7), "table"),
        ):
            if source == "list":
                pool = np.array([name[0] for name in self._groups["bali", sex]], np.int32)
                put(rows, _zipf(rng, pool, len(rows)))
            elif source == "made":
                put(rows, _zipf(rng, self._bali[sex], len(rows)))
            else:
                put(rows, self.tokens(rng, who, LAST, len(rows)))
        return _without_repeats(names)

    def _christian_east(self, rng: np.random.Generator, who: Bearers, area: Ids) -> Ids:
        _, sex, cohort = who
        count = len(area)
        names = np.full((count, WORDS), NO_TOKEN, np.int32)
        names[:, 0] = self.tokens(rng, who, FIRST, count)
        length = np.ones(count, np.int64)
        middle = np.flatnonzero(rng.random(count) < (0.25, 0.3, 0.4, 0.55, 0.7)[cohort])
        names[middle, 1] = self.tokens(rng, who, MIDDLE, len(middle))
        length[middle] += 1
        alone = rng.random(count) < 0.04
        for number, groups in enumerate(NTT_AREAS.values()):
            rows = np.flatnonzero((area == number) & ~alone)
            pool = [name for group in groups for name in self._groups.get((group, sex), ())]
            if not len(rows) or not pool:
                continue
            padded = np.array([(*name, NO_TOKEN)[:2] for name in pool], np.int32)
            # Clans are common or rare in an order of their own, not the alphabet's.
            shuffled = padded[np.random.Generator(np.random.PCG64(number)).permutation(len(padded))]
            pick = (rng.random(len(rows)) ** 2 * len(shuffled)).astype(np.int64)
            names[rows, length[rows]] = shuffled[pick, 0]
            names[rows, length[rows] + 1] = shuffled[pick, 1]
        bare = np.flatnonzero((names[np.arange(count), length] == NO_TOKEN) & ~alone)
        names[bare, length[bare]] = self.tokens(rng, who, LAST, len(bare))
        return _without_repeats(names)

    def _batak(self, rng: np.random.Generator, who: Bearers, count: int) -> Ids:
        names = np.full((count, WORDS), NO_TOKEN, np.int32)
        names[:, 0] = self.tokens(rng, who, FIRST, count)
        length = np.ones(count, np.int64)
        middle = np.flatnonzero(rng.random(count) < (0.1, 0.15, 0.25, 0.45, 0.6)[who.cohort])
        names[middle, 1] = self.tokens(rng, who, MIDDLE, len(middle))
        length[middle] += 1
        clans = np.array([self.number(name) for name in BATAK_CLANS if name in self._number], np.int32)
        names[np.arange(count), length] = _zipf(rng, clans, count)
        return _without_repeats(names)


NTT_AREAS: Final[dict[str, tuple[str, ...]]] = {
    "sumba": ("ntt_sumba",),
    "timor": ("ntt_timor_meto",),
    "belu": ("ntt_belu_malaka",),
    "flores_timur": ("ntt_flores_timur_lembata",),
    "sikka": ("ntt_sikka",),
    "ende": ("ntt_ende_lio_ngada_nagekeo",),
    "manggarai": ("ntt_manggarai",),
    "rote": ("ntt_rote",),
    "sabu": ("ntt_sabu",),
    "alor": ("ntt_alor",),
}
BATAK_CLANS: Final = (
    "siregar", "simanjuntak", "sinaga", "nasution", "harahap", "lubis", "hutapea", "situmorang", "simbolon", "siahaan",
    "panjaitan", "hasibuan", "pasaribu", "manurung", "nainggolan", "sihombing", "silalahi", "tambunan", "marpaung",
    "pangaribuan", "sitorus", "gultom", "hutagalung", "purba", "ginting", "sembiring", "tarigan", "sitepu", "saragih",
    "damanik", "pohan", "ritonga", "rangkuti", "batubara", "daulay", "aritonang", "simatupang", "napitupulu",
)  # fmt: skip


def _usable(token: str) -> bool:
    return token not in _NOT_A_NAME and (len(token) > 1 or token == "m")  # noqa: S105 - a name, not a password


def _zipf(rng: np.random.Generator, pool: Ids, count: int) -> Ids:
    weights = np.cumsum(1 / (np.arange(len(pool)) + 4.0))
    drawn: Ids = pool[np.searchsorted(weights, rng.random(count) * weights[-1], side="right")]
    return drawn


def _without_repeats(names: Ids) -> Ids:
    """Nobody is called Sari Sari: drop a token that repeats the one before it."""
    repeated = np.flatnonzero(((names[:, 1:] == names[:, :-1]) & (names[:, 1:] != NO_TOKEN)).any(axis=1))
    for row in repeated:
        kept = [
            token
            for at, token in enumerate(names[row])
            if token != NO_TOKEN and (at == 0 or token != names[row, at - 1])
        ]
        names[row] = NO_TOKEN
        names[row, : len(kept)] = kept
    return names


def _word_shares() -> Mapping[int, Floats]:
    """Per sex: (200, 2) shares of one-word and two-word names by birth year from 1900."""
    shares = {}
    for sex, letter in enumerate("fm"):
        points = [
            ((int(row["born_from"]) + int(row["born_to"])) / 2, float(row["share_1"]), float(row["share_2"]))
            for row in read_table("matching", "name_words_by_cohort.tsv")
            if row["sex"] == letter
        ]
        points = sorted([*points, *LATER_WORDS])
        years, one, two = (np.array(column) for column in zip(*points, strict=True))
        grid = np.arange(1900, 2100)
        shares[sex] = np.stack([np.interp(grid, years, one), np.interp(grid, years, two)], axis=1)
    return shares


@cache
def name_model() -> NameModel:
    """Return the one model of this process; building it takes a second."""
    return NameModel()
