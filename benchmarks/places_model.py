"""Draws birthplaces, and writes them the way registries and people do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from benchmarks.name_model import NTT_AREAS, read_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ids = NDArray[np.int32]

_NTT_AREA_OF: Final = {
    "53.01": "timor", "53.02": "timor", "53.03": "timor", "53.71": "timor", "53.04": "belu", "53.21": "belu",
    "53.05": "alor", "53.06": "flores_timur", "53.13": "flores_timur", "53.07": "sikka", "53.08": "ende",
    "53.09": "ende", "53.16": "ende", "53.10": "manggarai", "53.15": "manggarai", "53.19": "manggarai",
    "53.11": "sumba", "53.12": "sumba", "53.17": "sumba", "53.18": "sumba", "53.14": "rote", "53.20": "sabu",
}  # fmt: skip
# Villages by this name are everywhere; nobody can say in which regency.
_VILLAGES: Final = (
    "Sukamaju", "Sidomulyo", "Karanganyar", "Mekarsari", "Sukajadi", "Kedungsari", "Tegalrejo", "Sumberejo",
    "Banjarsari", "Cibadak", "Wonosari", "Purwosari", "Sukorejo", "Karangrejo", "Jatimulyo", "Margasari", "Kalirejo",
    "Sumberagung", "Pasirjaya", "Cikaret", "Ngemplak", "Gunungsari", "Randusari", "Kebonagung", "Bojongsari",
)  # fmt: skip


@dataclass(frozen=True)
class Regency:
    """One regency or city. name: without Kabupaten or Kota."""

    code: str
    name: str
    is_city: bool


class PlaceModel:
    """The regencies of the country with their populations, old parents and districts."""

    def __init__(self) -> None:
        rows = [row for row in read_table("matching", "regions.tsv") if row["population"]]
        self.province_names = {row["code"]: row["name"] for row in rows if "." not in row["code"]}
        self.population = {row["code"]: int(row["population"]) for row in rows if "." not in row["code"]}
        regencies = sorted((row for row in rows if "." in row["code"]), key=lambda row: row["code"])
        self.regencies = tuple(Regency(row["code"], row["name"].strip(), row["kind"] == "kota") for row in regencies)
        self._number = {regency.code: number for number, regency in enumerate(self.regencies)}
        self._weights = np.array([int(row["population"]) for row in regencies], np.float64)
        self._provinces = np.array([regency.code[:2] for regency in self.regencies])
        areas = list(NTT_AREAS)
        self.clan_area = np.array(
            [areas.index(_NTT_AREA_OF[r.code]) if r.code in _NTT_AREA_OF else -1 for r in self.regencies], np.int32
        )
        self._districts: dict[str, list[str]] = {}
        for row in read_table("matching", "regions_districts.tsv"):
            self._districts.setdefault(row["regency"], []).append(row["district"])
        self._confused = self._confusions()

    def _confusions(self) -> dict[str, list[str]]:
        """Per regency, the names people use for it by mistake: its old parent, or its namesake city or regency."""
        confused: dict[str, list[str]] = {}
        for row in read_table("matching", "regions_splits.tsv"):
            if row["regency"] in self._number and row["parent"] in self._number:
                parent = self.regencies[self._number[row["parent"]]]
                confused.setdefault(row["regency"], []).append(parent.name)
        namesakes: dict[tuple[str, str], list[Regency]] = {}
        for regency in self.regencies:
            namesakes.setdefault((regency.code[:2], regency.name.removeprefix("Kota ")), []).append(regency)
        for group in namesakes.values():
            for one in group:
                for other in group:
                    if one is not other:
                        title = "Kota" if other.is_city else "Kabupaten"
                        confused.setdefault(one.code, []).append(f"{title} {other.name}")
        return confused

    def draw(self, rng: np.random.Generator, provinces: tuple[str, ...], count: int) -> Ids:
        """Draw regencies (their numbers) by population; no provinces = the whole country."""
        pool = np.flatnonzero(np.isin(self._provinces, provinces)) if provinces else np.arange(len(self.regencies))
        cumulative = np.cumsum(self._weights[pool])
        at = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
        drawn: Ids = pool[np.minimum(at, len(pool) - 1)].astype(np.int32)
        return drawn

    def as_registered(self, rng: np.random.Generator, places: Ids, *, capitals: bool) -> pl.Series:
        """Write birthplaces as a registry does: the bare name mostly, its kind or a district sometimes."""
        bare, full = [], []
        for regency in self.regencies:
            jakarta = regency.code.startswith("31.7")
            bare.append("Jakarta" if jakarta else regency.name)
            full.append(regency.name if jakarta else f"{'Kota' if regency.is_city else 'Kab.'} {regency.name}")
        count = len(places)
        index = pl.Series(places)
        written = pl.Series(bare).gather(index)
        kind = np.flatnonzero(rng.random(count) < 0.06)
        written = written.scatter(kind, pl.Series(full).gather(pl.Series(places[kind])))
        district = np.flatnonzero(rng.random(count) < 0.04)
        names = [self._a_district(rng, int(place)) for place in places[district]]
        written = written.scatter(district, names)
        return (written.str.to_uppercase() if capitals else written).alias("birthplace")

    def _a_district(self, rng: np.random.Generator, place: int) -> str:
        regency = self.regencies[place]
        districts = self._districts.get(regency.code)
        return districts[int(rng.integers(len(districts)))] if districts else regency.name

    def confused(self, rng: np.random.Generator, place: int) -> str:
        """Return the old parent or the namesake of a regency; one that has neither is called a city, or the reverse."""
        regency = self.regencies[place]
        options = self._confused.get(regency.code)
        if options:
            return options[int(rng.integers(len(options)))]
        return f"{'Kabupaten' if regency.is_city else 'Kota'} {regency.name}"

    def other_level(self, rng: np.random.Generator, place: int) -> str:
        """Return a village, a district or the province instead of the regency."""
        kind = rng.random()
        if kind < 0.35:
            return _VILLAGES[int(rng.integers(len(_VILLAGES)))]
        if kind < 0.8:
            return self._a_district(rng, place)
        return self.province_names[self.regencies[place].code[:2]]

    def bare_name(self, place: int) -> str:
        """Return the regency's name as people say it."""
        regency = self.regencies[place]
        return "Jakarta" if regency.code.startswith("31.7") else regency.name


@cache
def place_model() -> PlaceModel:
    """Return the one model of this process."""
    return PlaceModel()
