"""Places of birth: from what people write to the regencies it may mean."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rapidfuzz import process
from rapidfuzz.distance import OSA

if TYPE_CHECKING:
    from collections.abc import Iterable

PROVINCES: Final[dict[str, str]] = {
    "31": "DKI Jakarta",
    "32": "Jawa Barat",
    "33": "Jawa Tengah",
    "34": "DI Yogyakarta",
    "35": "Jawa Timur",
    "36": "Banten",
    "18": "Lampung",
    "51": "Bali",
    "52": "Nusa Tenggara Barat",
    "53": "Nusa Tenggara Timur",
}

_DATA: Final = Path(__file__).parent / "data"
_KINDS: Final = {
    **dict.fromkeys(("kab", "kabupaten", "kabupatan"), "kabupaten"),
    **dict.fromkeys(("kota", "kodya", "kotamadya", "kotamadia", "kodia", "kotip", "kotif"), "kota"),
    **dict.fromkeys(("prov", "prop", "provinsi", "propinsi"), "provinsi"),
    **dict.fromkeys(("kec", "kecamatan", "distrik", "desa", "ds", "kel", "kelurahan", "dusun", "dsn"), "district"),
}
_CUT_BEFORE: Final = frozenset(_KINDS) - {"kota"}  # Lima Puluh Kota is one name
_ADMINISTRATIVE: Final = frozenset({"administrasi", "adm"})
_COMPASS: Final = frozenset(
    {"utara", "selatan", "timur", "barat", "tengah", "pusat", "kota", "kulon", "wetan", "lor", "kidul"}
)
_PART: Final = re.compile(r"[,;/|()\n]+")
_DOUBLED: Final = re.compile(r"(.)\1+")
_NOT_LETTERS: Final = re.compile(r"[^a-z]+")

# Edits a text may be away from the only name it can mean. Below five letters one edit makes another place of it.
_ONE_EDIT_FROM: Final = 5
_TWO_EDITS_FROM: Final = 9
_DISTRICT_EDIT_FROM: Final = 8


@dataclass(frozen=True, slots=True)
class ResolvedPlace:
    """What a text may mean; empty where nothing was recognised.

    text: normalised words of the most specific part, without kab/kota, old spelling made modern where that helped.
    regencies: codes ("33.05") the text names. related: codes that often stand in the other's stead (regency beside
    city, parent of a split, parts of an island). provinces: codes of the provinces named, and of all `regencies`.
    district: no regency was named, only a district of theirs; it may as well be a village of the same name elsewhere.
    """

    text: str = field(repr=False)
    regencies: tuple[str, ...] = field(repr=False)
    related: tuple[str, ...] = field(repr=False)
    provinces: tuple[str, ...] = field(repr=False)
    district: bool = field(default=False, repr=False, compare=False)  # a registry keeps one value for both


@dataclass(slots=True)
class _Reading:
    """Everything one name can mean."""

    regencies: set[str] = field(default_factory=set)
    districts: set[str] = field(default_factory=set)  # codes of the regencies that hold a district of this name
    area: set[str] = field(default_factory=set)
    provinces: set[str] = field(default_factory=set)

    @property
    def codes(self) -> set[str]:
        """A regency is meant rather than a district of the same name."""
        return self.regencies or self.districts

    @property
    def only_district(self) -> bool:
        """Whether the name is of districts alone."""
        return not (self.regencies or self.area or self.provinces)


@dataclass(frozen=True, slots=True)
class _Part:
    words: tuple[str, ...]
    kind: str
    whole: tuple[str, ...]  # with the designator: "kota baru" is a name, "kota bandung" is not


@dataclass(frozen=True, slots=True)
class _Found:
    words: tuple[str, ...]
    reading: _Reading
    kind: str


class _Gazetteer:
    """The tables of matching/data/regions*.tsv, by name without spaces."""

    def __init__(self) -> None:
        self.readings: dict[str, _Reading] = defaultdict(_Reading)
        self.kinds: dict[str, str] = {}
        self.names: dict[str, str] = {}
        for row in _rows("regions.tsv"):
            self.kinds[row["code"]] = row["kind"]
            self.names[row["code"]] = row["name"]
            reading = self.readings[_key(row["name"])]
            (reading.provinces if row["kind"] == "provinsi" else reading.regencies).add(row["code"])
        for row in _rows("regions_names.tsv"):
            reading = self.readings[_key(row["name"])]
            place = {"same": reading.regencies, "area": reading.area, "province": reading.provinces}[row["kind"]]
            place.update(row["codes"].split())
        self._add_districts()
        self.related = self._relations()
        # Slips are looked for among districts only when they lead to no regency, province or island.
        self.district_choice = [key for key, reading in self.readings.items() if reading.only_district]
        self.first_choice = [key for key, reading in self.readings.items() if not reading.only_district]
        self.by_sound: dict[str, set[str]] = defaultdict(set)
        for key in self.first_choice:
            self.by_sound[_sound(key)] |= self.readings[key].regencies

    def _add_districts(self) -> None:
        bases: dict[str, set[str]] = defaultdict(set)
        for row in _rows("regions_districts.tsv"):
            words = _words(row["district"])
            self.readings["".join(words)].districts.add(row["regency"])
            if len(words) > 1 and words[-1] in _COMPASS:  # "Ungaran" names no district, Ungaran Barat and Timur do
                bases["".join(words[:-1])].add(row["regency"])
            if len(words) > 1 and words[0] == "kota":
                bases["".join(words[1:])].add(row["regency"])
        for base, regencies in bases.items():
            if base not in self.readings and len(base) >= _ONE_EDIT_FROM:
                self.readings[base].districts.update(regencies)

    def _relations(self) -> dict[str, set[str]]:
        related: dict[str, set[str]] = defaultdict(set)
        namesakes: dict[tuple[str, str], set[str]] = defaultdict(set)
        for code, kind in self.kinds.items():
            if kind != "provinsi":
                namesakes[code[:2], _key(self.names[code])].add(code)
        for codes in namesakes.values():
            for code in codes:
                related[code] |= codes - {code}
        parents = {row["regency"]: row["parent"] for row in _rows("regions_splits.tsv")}
        for code, parent in parents.items():
            ancestor: str | None = parent
            while ancestor is not None:
                related[code].add(ancestor)
                related[ancestor].add(code)
                ancestor = parents.get(ancestor)
        return related

    def find(self, part: _Part) -> _Found | None:
        """Look one part up: as it stands, without its designator, in modern spelling, by sound."""
        for words, kind in ((part.whole, "" if part.whole != part.words else part.kind), (part.words, part.kind)):
            found = self.readings.get("".join(words))
            if found is not None:
                return _Found(words, self._with_namesakes_in_sound(found, "".join(words)), kind)
        modern = [words for words in _modern_spellings(part.words) if "".join(words) in self.readings]
        if modern:
            return _Found(modern[0], self.readings["".join(modern[0])], part.kind)
        heard = self.by_sound.get(_sound("".join(part.words)))
        return _Found(part.words, _Reading(regencies=heard), part.kind) if heard else None

    def _with_namesakes_in_sound(self, reading: _Reading, key: str) -> _Reading:
        """Purbolinggo is a district of Lampung, and how Purbalingga is said: both are meant."""
        if not reading.only_district:
            return reading
        heard = {code for code in self.by_sound.get(_sound(key), ()) if code[:2] in PROVINCES}
        return _Reading(districts=reading.districts | heard)

    def guess(self, part: _Part) -> _Found | None:
        """Find the only name within a slip or two of the part."""
        for words in (part.words, *_modern_spellings(part.words)):
            key = "".join(words)
            allowed = 0 if len(key) < _ONE_EDIT_FROM else 1 if len(key) < _TWO_EDITS_FROM else 2
            winner = self._closest(key, self.first_choice, allowed)
            if winner is None and len(key) >= _DISTRICT_EDIT_FROM:
                winner = self._closest(key, self.district_choice, 1)
            if winner is not None:
                return _Found(part.words, self.readings[winner], part.kind)
        return None

    @staticmethod
    def _closest(key: str, choices: list[str], allowed: int) -> str | None:
        if not allowed:
            return None
        best = process.extract(key, choices, scorer=OSA.distance, score_cutoff=allowed, limit=2)
        if not best or (len(best) == 2 and best[0][1] == best[1][1]) or best[0][0][0] != key[0]:
            return None
        return best[0][0]


@cache
def _gazetteer() -> _Gazetteer:
    return _Gazetteer()


def province_name(code: str) -> str:
    """Return the name of a province by its Kemendagri code; the code itself when it is none of Indonesia's."""
    return PROVINCES.get(code) or _gazetteer().names.get(code, code)


def regency_name(code: str) -> str:
    """Return "Kabupaten Kebumen" for "33.05"; the code itself when there is none."""
    gazetteer = _gazetteer()
    return f"{gazetteer.kinds[code].capitalize()} {gazetteer.names[code]}" if code in gazetteer.names else code


def resolve_place(text: str) -> ResolvedPlace:
    """Find the regencies and provinces a text may mean.

    Reads regencies and cities (with or without the word), districts of the ten provinces, provinces, old names and
    spellings, and "district, regency, province" in any number of parts; a text that names nothing may be one or two
    slips away from the only name it can mean. Pure: equal texts give equal results, so callers may memoise.
    """
    parts = _parts(text)
    gazetteer = _gazetteer()
    found = [hit for part in parts for hit in _find_or_cut(part, gazetteer)]
    if not found:
        found = [hit for part in parts if (hit := gazetteer.guess(part)) is not None]
    if not found:
        return ResolvedPlace(" ".join(word for part in parts for word in part.words), (), (), ())
    return _combine(found, gazetteer)


def _combine(found: list[_Found], gazetteer: _Gazetteer) -> ResolvedPlace:
    """Read the parts from the widest (last) to the most specific: each narrows what the one after it left open."""
    codes: set[str] = set()
    area: set[str] = set()
    provinces: set[str] = set()
    text: tuple[str, ...] = ()
    for hit in reversed(found):
        mine, mine_related = _of_kind(hit, gazetteer)
        inside = {
            code
            for code in hit.reading.regencies | hit.reading.districts
            if code in codes or code in area or code[:2] in provinces
        }
        if not text:
            codes, area, provinces = mine, mine_related, set(hit.reading.provinces)
        elif inside:
            codes, area = (inside & mine) or inside, set()
        elif not codes and not provinces:
            codes, area = mine, mine_related
        else:
            continue
        text = hit.words
    related = area.union(*(gazetteer.related.get(code, ()) for code in codes)) - codes
    provinces |= {code[:2] for code in codes | area}
    district = bool(codes) and not any(codes <= hit.reading.regencies for hit in found)
    return ResolvedPlace(
        " ".join(text), tuple(sorted(codes)), tuple(sorted(related)), tuple(sorted(provinces)), district
    )


def _of_kind(hit: _Found, gazetteer: _Gazetteer) -> tuple[set[str], set[str]]:
    """Return the regencies meant and the area meant, heeding "kab.", "kota" and "kec." where that leaves any."""
    codes = hit.reading.codes
    if hit.kind == "district":
        codes = hit.reading.districts or codes
    elif hit.kind in {"kabupaten", "kota"}:
        codes = {code for code in codes if gazetteer.kinds[code] == hit.kind} or codes
    elif hit.kind == "provinsi" and hit.reading.provinces:
        return set(), set()
    return set(codes), set(hit.reading.area)


def _find_or_cut(part: _Part, gazetteer: _Gazetteer) -> list[_Found]:
    """Find a part; or cut it in two that are both names, as in "kebumen jawa tengah"."""
    whole = gazetteer.find(part)
    if whole is not None:
        return [whole]
    for cut in range(len(part.words) - 1, 0, -1):
        left = gazetteer.find(_part(part.words[:cut], part.kind))
        right = gazetteer.find(_part(part.words[cut:], ""))
        if left is not None and right is not None:
            return [left, right]
    return []


def _parts(text: str) -> list[_Part]:
    """Cut a text at commas and before designators, and take the designators off."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    parts: list[_Part] = []
    for piece in _PART.split(plain):
        words = tuple(word for word in _words(piece) if word != "indonesia")
        if parts and len(words) == 1 and words[0] in _KINDS:  # "Bogor (Kota)"
            parts[-1] = _Part(parts[-1].words, _KINDS[words[0]], parts[-1].words)
            continue
        starts = [at for at, word in enumerate(words) if at and word in _CUT_BEFORE and at + 1 < len(words)]
        pieces = (words[start:end] for start, end in pairwise((0, *starts, len(words))))
        parts += [_part(piece, "") for piece in pieces if piece and not (len(piece) == 1 and piece[0] in _KINDS)]
    return parts


def _part(words: tuple[str, ...], kind: str) -> _Part:
    bare = [word for word in words if word not in _ADMINISTRATIVE]
    while len(bare) > 1 and bare[0] in _KINDS:
        kind = _KINDS[bare.pop(0)]
    if not kind and len(bare) > 1 and _KINDS.get(bare[-1]) in {"kota", "kabupaten"}:
        kind = _KINDS[bare.pop()]
    return _Part(tuple(bare), kind, words)


def _modern_spellings(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the readings of a name in the spelling before 1972, none if it shows no sign of it.

    nj and j have two readings each; the list of names decides, so both may be tried.
    """
    joined = " ".join(words)
    if not re.search(r"tj|dj|nj|sj|oe|ch|j", joined):
        return []
    readings = []
    for nj, j in product(("ny", "nj"), ("y", "j")):
        modern = joined.replace("tj", "c").replace("dj", "\0").replace("nj", nj.replace("j", "\0")).replace("sj", "sy")
        modern = modern.replace("oe", "u").replace("ch", "kh").replace("j", j).replace("\0", "j")
        readings.append(tuple(modern.split(" ")))
    return [reading for reading in dict.fromkeys(readings) if reading != words]


def _sound(key: str) -> str:
    """Fold what Javanese mouths and clerks exchange freely: o and a, dh and d, double and single letters."""
    return _DOUBLED.sub(r"\1", re.sub(r"(?<=[dtk])h|h$", "", key).replace("o", "a"))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_NOT_LETTERS.sub(" ", text.lower().replace("'", "")).split())


def _key(text: str) -> str:
    return "".join(_words(text))


def _rows(name: str) -> Iterable[dict[str, str]]:
    with (_DATA / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t")
