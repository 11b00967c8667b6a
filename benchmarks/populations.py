"""Makes registries of the ten provinces and clients of known truth, from the shipped name tables.

Every person is made up. Same arguments, same bytes: each block of persons has its own generator, derived from the seed,
the province and the block's number, so that neither the number of clients nor the order of work changes a registry.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from benchmarks.errors_model import ErrorModel, Person, Profile, slip, spelling_1901, spelling_1947
from benchmarks.name_model import CUSTOM_NAMES, FEMALE, MALE, NO_TOKEN, NTT_AREAS, NameModel, name_model
from benchmarks.places_model import place_model
from benchmarks.unknown_names import exchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Ids = NDArray[np.int32]

TEN_PROVINCES: Final = ("18", "31", "32", "33", "34", "35", "36", "51", "52", "53")
REGISTRY_COLUMNS: Final = ("record_id", "province", "name", "sex", "birth_date", "birthplace", "mother_name")
QUERY_COLUMNS: Final = ("query_id", "name", "sex", "birth_date", "birthplace", "mother_name")
BLOCK_PERSONS: Final = 200_000  # persons made at once: bounds memory, keeps numpy busy
TODAY: Final = dt.date(
    2026, 11, 1
)  # ages are counted to this day; fixed, so that files do not change with the calendar

# Who lives where: rounded from the published shares of ethnic groups (census of 2010), by custom of naming.
_CUSTOM_SHARES: Final[dict[str, dict[str, float]]] = {
    "18": {"jawa": 0.64, "lampung": 0.16, "sunda": 0.11, "umum": 0.06, "bali": 0.02, "batak": 0.01},
    "31": {"jawa": 0.36, "betawi": 0.29, "sunda": 0.15, "umum": 0.13, "batak": 0.05, "ntt": 0.02},
    "32": {"sunda": 0.74, "jawa": 0.12, "umum": 0.06, "betawi": 0.06, "batak": 0.02},
    "33": {"jawa": 0.975, "umum": 0.015, "sunda": 0.01},
    "34": {"jawa": 0.965, "umum": 0.035},
    "35": {"jawa": 0.79, "madura": 0.18, "umum": 0.03},
    "36": {"sunda": 0.68, "jawa": 0.16, "betawi": 0.12, "umum": 0.03, "batak": 0.01},
    "51": {"bali": 0.84, "jawa": 0.1, "umum": 0.04, "sasak": 0.01, "ntt": 0.01},
    "52": {"sasak": 0.91, "umum": 0.03, "bali": 0.03, "jawa": 0.03},
    "53": {"ntt": 0.9, "umum": 0.06, "jawa": 0.02, "sasak": 0.01, "bali": 0.01},
}
# Where a custom is at home. Its people elsewhere are migrants, or migrants' children.
_HOME_OF: Final[dict[str, tuple[str, ...]]] = {
    "jawa": ("33", "35", "34"), "sunda": ("32", "36"), "betawi": ("31", "32", "36"), "madura": ("35",),
    "lampung": ("18",), "sasak": ("52",), "bali": ("51",), "ntt": ("53",), "batak": ("12",), "umum": (),
}  # fmt: skip
_BORN_HERE: Final = 0.955  # of people in their custom's home province
_MIGRANT_BORN_HERE: Final = {"31": 0.5, "32": 0.55, "36": 0.5, "18": 0.72}
_MIGRANT_BORN_HERE_DEFAULT: Final = 0.4

# Ages in five-year groups from 0: the country's pyramid, with fewer children and more of the old than it has,
# as registries of social services hold them.
_AGE_GROUPS: Final = np.array(
    [42, 50, 56, 66, 74, 78, 78, 76, 76, 74, 104, 96, 84, 66, 48, 30, 16, 8], dtype=np.float64
)  # fmt: skip
_CLIENT_AGE_WEIGHT: Final = ((0, 0.15), (10, 0.4), (18, 1.0), (40, 1.3), (60, 2.0))  # who is found destitute
_CLIENT_MALE_WEIGHT: Final = 1.6

_HAJJ_SHARE: Final = {
    "sunda": 0.07,
    "madura": 0.08,
    "betawi": 0.06,
    "sasak": 0.07,
    "jawa": 0.03,
    "lampung": 0.04,
    "umum": 0.03,
}
_DEGREES: Final = ("S.PD", "S.E", "S.H", "A.MD", "S.SOS", "S.KOM", "S.AG", "S.T", "M.PD", "S.KEP")
_TITLE_CASE: Final = frozenset({"34", "51"})  # provinces whose registry is not written in capitals
_TYPO_SHARE: Final = 0.004  # names with a clerk's typing error


@dataclass(frozen=True)
class Clients:
    """The clients' descriptions, whose they are, and what was done to each; in the files' columns."""

    queries: pl.DataFrame
    truth: pl.DataFrame
    errors: pl.DataFrame


@dataclass(frozen=True)
class Population(Clients):
    """Clients with the registries some of them are in."""

    registry: pl.DataFrame


@dataclass(frozen=True)
class Recipe:
    """What makes a population: equal recipes make equal bytes.

    registered_share: of the clients. equal: registries of one size; otherwise in proportion to population.
    """

    persons: int
    clients: int
    profile: Profile
    seed: int
    registered_share: float = 0.7
    provinces: tuple[str, ...] = TEN_PROVINCES
    equal: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        unknown = sorted(set(self.provinces) - set(TEN_PROVINCES))
        if unknown:
            raise ValueError(f"no registry is modelled for province {', '.join(unknown)}")
        if list(self.provinces) != sorted(set(self.provinces)):
            raise ValueError("provinces must be sorted, each named once")
        if not self.provinces or self.persons < len(self.provinces):
            raise ValueError("every province needs at least one person")
        if self.clients < 0 or not 0 <= self.registered_share <= 1:
            raise ValueError("clients must not be negative, registered_share must lie in 0..1")
        if self.registered_clients > self.persons:
            raise ValueError("more registered clients than registered persons")

    @property
    def registered_clients(self) -> int:
        """Clients who stand in a registry."""
        return round(self.clients * self.registered_share)

    @property
    def sizes(self) -> dict[str, int]:
        """Persons per registry, largest remainders first, so that they add up."""
        weights = {code: 1.0 if self.equal else float(place_model().population[code]) for code in self.provinces}
        total = sum(weights.values())
        exact = {code: self.persons * weight / total for code, weight in weights.items()}
        sizes = {code: int(share) for code, share in exact.items()}
        by_remainder = sorted(exact, key=lambda code: (sizes[code] - exact[code], code))
        for code in by_remainder[: self.persons - sum(sizes.values())]:
            sizes[code] += 1
        return sizes

    def generator(self, *stream: int) -> np.random.Generator:
        """Return the generator of one stream of draws, independent of every other."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=stream)))

    def blocks(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield (province, number of the block in it, first person, persons)."""
        for code, size in self.sizes.items():
            for number, start in enumerate(range(0, size, BLOCK_PERSONS)):
                yield code, number, start, min(BLOCK_PERSONS, size - start)


def generate(
    persons: int,
    clients: int,
    profile: Profile,
    seed: int,
    registered_share: float = 0.7,
    *,
    provinces: Sequence[str] = TEN_PROVINCES,
    equal: bool = False,
) -> Population:
    """Make a population in memory; see Recipe for the arguments."""
    recipe = Recipe(persons, clients, profile, seed, registered_share, tuple(sorted(provinces)), equal)
    parts: list[pl.DataFrame] = []
    made = stream(recipe, parts.append)
    return Population(made.queries, made.truth, made.errors, pl.concat(parts))


def write(population: Population, out_dir: Path) -> None:
    """Write registry.csv, queries.csv, truth.csv and errors.csv."""
    out_dir.mkdir(parents=True, exist_ok=True)
    population.registry.write_csv(out_dir / "registry.csv")
    _write_clients(out_dir, population)


def populate(
    recipe: Recipe,
    out_dir: Path,
    progress: Callable[[int], None] = lambda _: None,
    *,
    unknown_names: float = 0.0,
) -> dict[str, float]:
    """Write the files of a population, one block of persons in memory at a time; return its summary.

    progress: called with the number of persons just written. unknown_names: share of persons whose names are changed
    into such as the reference has never seen; see `exchanged`.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with (out_dir / "registry.csv").open("wb") as file:
        file.write((",".join(REGISTRY_COLUMNS) + "\n").encode())

        def keep(part: pl.DataFrame) -> None:
            if unknown_names:
                part = exchanged(part, part["record_id"].to_list(), unknown_names, recipe.seed)
            part.write_csv(file, include_header=False)
            counts.update(_registry_counts(part))
            progress(part.height)

        clients = stream(recipe, keep)
    if unknown_names:
        persons = clients.truth.select(pl.coalesce("record_id", "query_id")).to_series().to_list()
        clients = replace(clients, queries=exchanged(clients.queries, persons, unknown_names, recipe.seed))
    _write_clients(out_dir, clients)
    return _summary(counts, clients)


def _write_clients(out_dir: Path, clients: Clients) -> None:
    clients.queries.write_csv(out_dir / "queries.csv")
    clients.truth.write_csv(out_dir / "truth.csv")
    clients.errors.write_csv(out_dir / "errors.csv")


def stream(recipe: Recipe, keep: Callable[[pl.DataFrame], None]) -> Clients:
    """Make the registries, handing each block of one province to `keep`; then the clients."""
    blocks = list(recipe.blocks())
    chooser = recipe.generator(1)
    sizes = np.array([block[3] for block in blocks])
    wanted = chooser.multivariate_hypergeometric(sizes, recipe.registered_clients, method="marginals")
    chosen: list[pl.DataFrame] = []
    for (code, number, start, count), take in zip(blocks, wanted, strict=True):
        people = _people(recipe.generator(0, int(code), number), code, count, recipe.profile, first=start + 1)
        keep(people.select(REGISTRY_COLUMNS))
        if take:
            picker = recipe.generator(2, int(code), number)
            chosen.append(people[_pick(picker, people, int(take))].with_columns(registered=pl.lit(value=True)))
    # The unregistered are drawn from the same provinces, but their person stands in no registry.
    strangers = recipe.clients - recipe.registered_clients
    shares = np.array(list(recipe.sizes.values())) / recipe.persons
    for code, take in zip(recipe.sizes, chooser.multinomial(strangers, shares), strict=True):
        if take:
            people = _people(recipe.generator(3, int(code)), code, int(take) * 8, recipe.profile, first=1)
            picked = people[_pick(recipe.generator(4, int(code)), people, int(take))]
            chosen.append(picked.with_columns(registered=pl.lit(value=False)))
    return _clients(recipe, chosen)


def _pick(rng: np.random.Generator, people: pl.DataFrame, count: int) -> Ids:
    age = TODAY.year - people["true_year"].to_numpy()
    starts, weights = zip(*_CLIENT_AGE_WEIGHT, strict=True)
    weight = np.array(weights)[np.searchsorted(starts, age, side="right") - 1]
    weight = np.where(people["is_male"].to_numpy(), weight * _CLIENT_MALE_WEIGHT, weight)
    picked = rng.choice(people.height, count, replace=False, p=weight / weight.sum())
    return np.sort(picked).astype(np.int32)


# --- persons -----------------------------------------------------------------------------------------------------


def _people(rng: np.random.Generator, code: str, count: int, profile: Profile, first: int) -> pl.DataFrame:
    """Make `count` persons of one province: what its registry says of them, and what is true."""
    model = name_model()
    sex = (rng.random(count) < 0.502).astype(np.int32)  # MALE = 1
    born = _birth_days(rng, count)
    year = born.astype("datetime64[Y]").astype(np.int32) + 1970
    custom = _draw_custom(rng, code, count)
    birthplace = _birthplaces(rng, code, custom)
    area = _clan_areas(rng, birthplace)
    names = model.draw(rng, custom, sex, year, area)
    mothers_year = (year - np.clip(rng.normal(26.5, 6, count), 15, 45)).astype(np.int32)
    mothers_custom = np.where(rng.random(count) < 0.9, custom, _draw_custom(rng, code, count)).astype(np.int32)
    mothers = model.draw(rng, mothers_custom, np.full(count, FEMALE, np.int32), mothers_year, area, later=False)

    writer = _Writer(rng, model, capitals=code not in _TITLE_CASE)
    true_name = writer.plain(names)
    true_mother = writer.plain(mothers)
    registered = writer.as_registered(names, year, custom, sex)
    registered_mother = writer.as_registered(mothers, mothers_year, mothers_custom, sex=None)
    # Old registers seldom asked for the mother.
    unknown_mother = rng.random(count) < np.select([year < 1960, year < 1980], [0.25, 0.1], 0.04)
    registered_born, is_default = _registered_dates(rng, born, year, profile)
    no_date, no_sex, no_place = (rng.random(count) < share for share in (0.005, 0.002, 0.01))
    places = place_model()
    written = places.as_registered(rng, birthplace, capitals=code not in _TITLE_CASE)
    return pl.DataFrame(
        {
            "record_id": _record_ids(code, first, count),
            "province": pl.Series([code]).new_from_index(0, count),
            "name": registered,
            "sex": pl.Series(np.where(sex == MALE, "L", "P")).set(pl.Series(no_sex), None),
            "birth_date": pl.Series(registered_born).dt.to_string("%Y-%m-%d").set(pl.Series(no_date), None),
            "birthplace": written.set(pl.Series(no_place), None),
            "mother_name": registered_mother.set(pl.Series(unknown_mother), None),
            "true_name": true_name,
            "true_mother": true_mother,
            "true_born": pl.Series(born),
            "registered_born": pl.Series(registered_born),
            "true_year": year,
            "is_default": is_default,
            "is_male": sex == MALE,
            "custom": custom,
            "regency": birthplace,
        }
    )


def _record_ids(code: str, first: int, count: int) -> pl.Series:
    numbers = pl.Series(np.arange(first, first + count)).cast(pl.String).str.zfill(8)
    return pl.select(pl.concat_str([pl.lit(f"{code}-"), numbers])).to_series()


def _birth_days(rng: np.random.Generator, count: int) -> NDArray[np.datetime64]:
    group = np.searchsorted(np.cumsum(_AGE_GROUPS), rng.random(count) * _AGE_GROUPS.sum(), side="right")
    days = (group * 5 + rng.random(count) * 5) * 365.2425
    born: NDArray[np.datetime64] = np.datetime64(TODAY) - days.astype(np.int64).astype("timedelta64[D]")
    return born


def _draw_custom(rng: np.random.Generator, code: str, count: int) -> Ids:
    shares = _CUSTOM_SHARES[code]
    numbers = np.array([CUSTOM_NAMES.index(name) for name in shares], np.int32)
    drawn: Ids = numbers[rng.choice(len(numbers), count, p=np.array(list(shares.values())))]
    return drawn


def _birthplaces(rng: np.random.Generator, code: str, custom: Ids) -> Ids:
    """Draw the regency of birth (number in the place model), by population within the province of birth."""
    places = place_model()
    found = np.empty(len(custom), np.int32)
    chance = rng.random(len(custom))
    for number, name in enumerate(CUSTOM_NAMES):
        rows = np.flatnonzero(custom == number)
        homes = _HOME_OF[name]
        here = _BORN_HERE if code in homes else _MIGRANT_BORN_HERE.get(code, _MIGRANT_BORN_HERE_DEFAULT)
        local = chance[rows] < here
        found[rows[local]] = places.draw(rng, (code,), int(local.sum()))
        # Those born elsewhere come from where their custom is at home, else from anywhere.
        away = rows[~local]
        origins = tuple(home for home in homes if home != code)
        found[away] = places.draw(rng, origins, len(away))
    return found


def _clan_areas(rng: np.random.Generator, birthplace: Ids) -> Ids:
    """Clans of NTT keep to their island; people born outside it get an area by chance."""
    area = place_model().clan_area[birthplace]
    unknown = np.flatnonzero(area < 0)
    area[unknown] = rng.integers(0, len(NTT_AREAS), len(unknown))
    return area


_DEFAULT_SCALE: Final = (
    (0, 6.0),
    (1950, 3.0),
    (1965, 1.0),
    (1980, 0.4),
    (1996, 0.1),
)  # by birth year, before renormalising


def _registered_dates(
    rng: np.random.Generator, born: NDArray[np.datetime64], year: Ids, profile: Profile
) -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
    """Put default days where nobody knew the day; the year of those is a guess as well, sometimes."""
    rates = ErrorModel.rates(profile)
    starts, scales = zip(*_DEFAULT_SCALE, strict=True)
    scale = np.array(scales)[np.searchsorted(starts, year, side="right") - 1]
    # Renormalised over the registry's age pyramid, so that the shares of the table hold for a whole registry.
    ages = np.repeat(np.arange(len(_AGE_GROUPS)) * 5 + 2, 1)
    pyramid = np.array(scales)[np.searchsorted(starts, TODAY.year - ages, side="right") - 1]
    scale = scale / (pyramid * _AGE_GROUPS).sum() * _AGE_GROUPS.sum()
    draw = rng.random(len(born))
    kinds = (("default_1_july", 7, 1), ("default_31_december", 12, 31), ("default_1_january", 1, 1))
    written = born.copy()
    is_default = np.zeros(len(born), np.bool_)
    edge = np.zeros(len(born))
    guess = np.where(rng.random(len(born)) < 0.25, rng.choice([-3, -2, -1, 1, 2, 3], len(born)), 0)
    for key, month, day in kinds:
        rows = np.flatnonzero((draw >= edge) & (draw < edge + rates[key] * scale))
        edge = edge + rates[key] * scale
        years = (year[rows] + guess[rows] - 1970).astype("datetime64[Y]").astype("datetime64[M]")
        dates = (years + np.timedelta64(month - 1, "M")).astype("datetime64[D]") + np.timedelta64(day - 1, "D")
        fits = dates <= np.datetime64(TODAY)
        written[rows[fits]] = dates[fits]
        is_default[rows[fits]] = True
    rows = np.flatnonzero((draw >= edge) & (draw < edge + rates["day_15"] * scale))
    fifteenth = born[rows].astype("datetime64[M]").astype("datetime64[D]") + np.timedelta64(14, "D")
    fits = fifteenth <= np.datetime64(TODAY)
    written[rows[fits]] = fifteenth[fits]
    is_default[rows[fits]] = True
    return written, is_default


class _Writer:
    """Writes names as a registry does: its case, old spellings of the old, titles, degrees and a clerk's slips."""

    def __init__(self, rng: np.random.Generator, model: NameModel, *, capitals: bool) -> None:
        self._rng = rng
        self._model = model
        self._capitals = capitals
        self._vocabulary = _written(capitals=capitals)

    def _strings(self, names: Ids, spelling: Ids | None = None) -> pl.Series:
        """Join tokens; spelling: per token 0 = modern, 1 = of 1947, 2 = of 1901."""
        columns = []
        for at in range(names.shape[1]):
            tokens = names[:, at]
            if not (tokens != NO_TOKEN).any():
                break
            index = pl.Series(np.where(tokens == NO_TOKEN, 0, tokens))
            column = self._vocabulary.gather(index)
            if spelling is not None:
                for kind, respell in ((1, spelling_1947), (2, spelling_1901)):
                    rows = np.flatnonzero(spelling[:, at] * (tokens != NO_TOKEN) == kind)
                    if len(rows):
                        column = column.scatter(rows, self._respelt(tokens[rows], respell))
            columns.append(column.set(pl.Series(tokens == NO_TOKEN), None).alias(f"t{at}"))
        joined = pl.DataFrame(columns).select(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True))
        return joined.to_series().alias("name")

    def _respelt(self, tokens: Ids, respell: Callable[[str], str]) -> pl.Series:
        distinct, at = np.unique(tokens, return_inverse=True)
        forms = pl.Series([respell(self._model.vocabulary[token]) for token in distinct], dtype=pl.String)
        written = forms.str.to_uppercase() if self._capitals else forms.str.to_titlecase()
        return written.gather(pl.Series(at))

    def plain(self, names: Ids) -> pl.Series:
        """Return the names as their bearers say them."""
        return self._strings(names)

    def as_registered(self, names: Ids, year: Ids, custom: Ids, sex: Ids | None) -> pl.Series:
        """Return the names as the registry wrote them. sex None: mothers, who get no degrees."""
        rng, count = self._rng, len(names)
        rate = np.select([year < 1947, year < 1973], [0.1, 0.035], 0.002)[:, None]
        old = rng.random(names.shape) < rate
        # Families keep the spelling they were born into; before 1947 that was oe.
        spelling = np.where(old, np.where((year < 1947)[:, None], 2, 1), 0).astype(np.int32)
        written = self._strings(names, spelling)
        slips = np.flatnonzero(rng.random(count) < _TYPO_SHARE)
        if len(slips):
            written = written.scatter(slips, [slip(rng, name) for name in written.gather(slips).to_list()])
        if sex is None:
            return written
        return self._titled(written, year, custom, sex)

    def _titled(self, written: pl.Series, year: Ids, custom: Ids, sex: Ids) -> pl.Series:
        rng, count = self._rng, len(written)
        share = np.array([_HAJJ_SHARE.get(name, 0.0) for name in CUSTOM_NAMES])[custom]
        hajj = rng.random(count) < np.where(year < 1975, share, share * 0.1)
        schooled = rng.random(count) < np.where((year > 1960) & (year < 2003), 0.03, 0.005)
        father = rng.random(count) < np.where(np.isin(custom, _PATRONYMIC), 0.012, 0.0)
        prefix = np.where(sex == MALE, "H. ", "HJ. " if self._capitals else "Hj. ")
        degree = rng.choice(np.array(_DEGREES), count)
        fathers = self._strings(
            self._model.draw(
                rng,
                custom,
                np.full(count, MALE, np.int32),
                np.maximum(year - 30, 1900),
                np.full(count, -1, np.int32),
                later=False,
            )[:, :1]
        )
        link = np.where(sex == MALE, " BIN ", " BINTI ")
        if not self._capitals:
            link = np.char.lower(link)
        rows = pl.DataFrame(
            {"name": written, "prefix": prefix, "link": link, "father": fathers, "degree": degree}
        ).with_columns(hajj=pl.Series(hajj), schooled=pl.Series(schooled), has_father=pl.Series(father))
        return rows.select(
            pl.concat_str(
                pl.when("hajj").then("prefix").otherwise(pl.lit("")),
                "name",
                pl.when("has_father").then(pl.concat_str("link", "father")).otherwise(pl.lit("")),
                pl.when("schooled").then(pl.concat_str(pl.lit(", "), "degree")).otherwise(pl.lit("")),
            )
        ).to_series()


_PATRONYMIC: Final = [CUSTOM_NAMES.index(name) for name in ("sunda", "betawi", "sasak", "lampung", "umum", "madura")]


@cache
def _written(*, capitals: bool) -> pl.Series:
    """Return the vocabulary as a registry writes it."""
    words = pl.Series(name_model().vocabulary)
    return words.str.to_uppercase() if capitals else words.str.to_titlecase()


# --- clients -----------------------------------------------------------------------------------------------------


def _clients(recipe: Recipe, chosen: list[pl.DataFrame]) -> Clients:
    """Describe the chosen persons, in random order."""
    rng = recipe.generator(5)
    model = ErrorModel(recipe.profile, TODAY)
    people = pl.concat(chosen).to_dicts() if chosen else []
    queries: list[tuple[str | None, ...]] = []
    truth: list[tuple[str | None, ...]] = []
    errors: list[tuple[str, str]] = []
    for number, at in enumerate(rng.permutation(len(people)), start=1):
        row = people[int(at)]
        query = f"Q{number:06d}"
        told = model.describe(rng, _person(row))
        queries.append((query, told.name, told.sex, told.birth_date, told.birthplace, told.mother_name))
        home = (row["record_id"], row["province"]) if row["registered"] else (None, None)
        truth.append((query, *home))
        errors.append((query, ";".join(told.operations)))
    return Clients(
        _frame(queries, QUERY_COLUMNS),
        _frame(truth, ("query_id", "record_id", "province")),
        _frame(errors, ("query_id", "operations")),
    )


def _frame(rows: Sequence[tuple[str | None, ...]], columns: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")


def _person(row: Mapping[str, Any]) -> Person:
    return Person(
        name=row["true_name"],
        registered_name=row["name"],
        is_male=row["is_male"],
        born=row["true_born"],
        registered_born=row["registered_born"],
        default_date=row["is_default"],
        place=row["regency"],
        registered_place=row["birthplace"],
        mother=row["true_mother"],
        registered_mother=row["mother_name"],
        custom=CUSTOM_NAMES[row["custom"]],
        province=row["province"],
    )


def summary(population: Population) -> dict[str, float]:
    """Return the shares a reader wants to know of a population before trusting a figure measured on it."""
    return _summary(_registry_counts(population.registry), population)


def _registry_counts(registry: pl.DataFrame) -> Counter[str]:
    counts = Counter({"persons": registry.height, "one-word names": _one_word(registry["name"])})
    for column in REGISTRY_COLUMNS[2:]:
        counts[f"registry has {column}"] = registry[column].count()
    return counts


def _one_word(names: pl.Series) -> int:
    bare = names.str.replace(r"^(?i)(h|hj|drs|dra|ir)\. ", "").str.split(",").list.first()
    return int((bare.str.split(" ").list.len() == 1).sum())


def _summary(counts: Counter[str], made: Clients) -> dict[str, float]:
    persons = counts["persons"]
    found = {label: count / persons if label != "persons" else float(persons) for label, count in counts.items()}
    clients = made.queries.height
    if not clients:
        return found
    found["clients"] = float(clients)
    found["clients registered"] = made.truth["record_id"].count() / clients
    found["clients with a one-word name"] = _one_word(made.queries["name"]) / clients
    for column in QUERY_COLUMNS[2:]:
        found[f"clients with {column}"] = made.queries[column].count() / clients
    found["clients with a whole birth date"] = int((made.queries["birth_date"].str.len_chars() == 10).sum()) / clients
    operations = made.errors["operations"].filter(made.errors["operations"] != "")
    found["clients with no error at all"] = 1 - len(operations) / clients
    found["errors per client"] = int(operations.str.split(";").list.len().sum()) / clients
    return found
