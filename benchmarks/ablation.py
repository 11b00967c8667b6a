"""Ablation: what is lost without each rule of normalisation, on clients of known truth and on a gold list of spellings.

Weights are not trained again: a figure says what a rule earns in the model that ships, and is an upper bound of what it
would earn if the weights could make up for it.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import polars as pl

from benchmarks.match import build_indexes, clients, open_indexes
from matching.blocking import BlockEncoder, Blocks
from matching.encoding import QueryEncoder
from matching.errors import FieldValueError
from matching.evaluation import Answers, Interval
from matching.fields import Born, PartialDate, YearClass, parse_born, parse_registry_date
from matching.names import NAME_PARTS, parse_name
from matching.phonetics import READINGS, SOUND_RULES, SPELLING_RULES, TokenForms, token_forms
from matching.places import ResolvedPlace, resolve_place
from matching.posterior import combine
from matching.question import MAX_VARIANTS, DateQuery, EncodedQuery, NameQuery, TokenQuery
from matching.reference import nicknames
from matching.rules import NAME_RULES, NORMALISATION, NameRules, Normalisation
from matching.schema import TITLE
from matching.search import search
from matching.tables import read_table
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date, datetime

    from matching.index import EncodedIndex
    from matching.keys import FieldKeys
    from matching.question import Client
    from matching.weights import MatchModel

RESAMPLES: Final = 300
GOLD_COLUMNS: Final = ("canonical", "variant", "kind")
RARE_ENOUGH: Final = 1e12  # persons' worth of the trained null: the question's own no longer counts


# --- Rules ----------------------------------------------------------------------------------------------------------


def _same_query(query: EncodedQuery) -> EncodedQuery:
    return query


def _same_model(model: MatchModel) -> MatchModel:
    return model


@dataclass(frozen=True)
class Rule:
    """One rule left out. number: of docs/matching.md, or what the rule is about.

    rules: the normalisation without it. ask, model: the same for what is asked and how it is weighed. asked_only: what
    a registry stores is as ever.
    """

    number: str
    name: str
    rules: Normalisation = NORMALISATION
    ask: Callable[[EncodedQuery], EncodedQuery] = _same_query
    model: Callable[[MatchModel], MatchModel] = _same_model
    asked_only: bool = False


def _same(sound: str) -> str:
    return sound


_ID_NAME: Final = NAME_RULES["id-name"]


def _with_names(names: NameRules) -> Normalisation:
    return replace(NORMALISATION, names={**NAME_RULES, "id-name": names})


def _without_forms(*left_out: str) -> Normalisation:
    """Leave out rules 6 to 9 by name."""
    without = frozenset(left_out)
    stored = without | {"alternates"}
    return _with_names(
        replace(
            _ID_NAME,
            forms=cache(partial(token_forms, without=without)),
            stored_forms=cache(partial(token_forms, without=stored)),
        )
    )


def _without_parts(*left_out: str) -> Normalisation:
    """Leave out parts of rules 1 to 5 by name."""
    return _with_names(replace(_ID_NAME, parse=partial(parse_name, without=frozenset(left_out))))


@cache
def _nicknamed_forms(token: str) -> TokenForms:
    forms = token_forms(token)
    called = (token_forms(other).sound for other in nicknames(token))
    return forms._replace(alternates=tuple(dict.fromkeys((*forms.alternates[: MAX_VARIANTS - 2], *called))))


_ISO: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


def _default_kept(text: str) -> PartialDate:
    found, written = parse_registry_date(text), _ISO.fullmatch(text)
    return found if written is None else PartialDate(found.year, int(written[2]), int(written[3]))


def _default_said(text: str, today: date) -> Born:
    found, said = parse_born(text, today), _ISO.fullmatch(text)
    return found if said is None else found._replace(month=int(said[2]), day=int(said[3]))


def _unresolved(text: str) -> ResolvedPlace:
    return replace(resolve_place(text), regencies=(), related=(), provinces=())


def _unrelated(text: str) -> ResolvedPlace:
    return replace(resolve_place(text), related=())


def _dates(change: Callable[[DateQuery], DateQuery]) -> Callable[[EncodedQuery], EncodedQuery]:
    def ask(query: EncodedQuery) -> EncodedQuery:
        fields = {name: change(each) if isinstance(each, DateQuery) else each for name, each in query.fields.items()}
        return replace(query, fields=fields)

    return ask


def _years(*kept: YearClass) -> Callable[[DateQuery], DateQuery]:
    def change(asked: DateQuery) -> DateQuery:
        keep = np.isin(asked.year_classes, kept)
        return replace(asked, years=asked.years[keep], year_classes=asked.year_classes[keep])

    return change


def _tokens(change: Callable[[TokenQuery], TokenQuery]) -> Callable[[EncodedQuery], EncodedQuery]:
    def ask(query: EncodedQuery) -> EncodedQuery:
        fields = {
            name: NameQuery(tuple(map(change, each.tokens))) if isinstance(each, NameQuery) else each
            for name, each in query.fields.items()
        }
        return replace(query, fields=fields)

    return ask


def _not_near(token: TokenQuery) -> TokenQuery:
    return replace(token, near=token.near[:0])


def _not_called(token: TokenQuery) -> TokenQuery:
    return replace(token, call=0)


def _without_title(query: EncodedQuery) -> EncodedQuery:
    return replace(query, fields={name: each for name, each in query.fields.items() if name != TITLE})


def _own_null_off(model: MatchModel) -> MatchModel:
    fields = {
        name: {group: replace(weights, chance=None) for group, weights in groups.items()}
        for name, groups in model.fields.items()
    }
    return replace(model, fields=fields, pseudo_count=RARE_ENOUGH)


_PARTS_OF_RULE: Final = {
    "1": ("brackets", "second_names", "comma"),
    "2": ("titles", "degrees"),
    "3": ("patronyms", "compounds", "run_together", "articles", "spelled_letters"),
    "4": ("abbreviations",),
    "5": ("muhammad",),
}
assert sorted(NAME_PARTS) == sorted(part for parts in _PARTS_OF_RULE.values() for part in parts)


def rules() -> list[Rule]:
    """Return every rule of docs/matching.md that can be left out, each as a whole and by its parts."""
    spelling = [name for name, _ in SPELLING_RULES]
    sound = [name for name, _ in SOUND_RULES]
    readings = [name for name, _, _ in READINGS]
    as_written = _without_forms(*spelling, *sound, "alternates").names["id-name"]
    found = [Rule(number, "all of it", _without_parts(*parts)) for number, parts in _PARTS_OF_RULE.items() if parts[1:]]
    found += [Rule(number, part, _without_parts(part)) for number, parts in _PARTS_OF_RULE.items() for part in parts]
    found += [
        Rule("4", "initials", _with_names(replace(_ID_NAME, initials=False))),
        Rule("6", "reforms", _without_forms("reforms")),
        Rule("7", "all of it", _without_forms(*spelling[1:])),
        *(Rule("7", name, _without_forms(name)) for name in spelling[1:]),
        Rule("8", "all of it", _without_forms(*sound)),
        *(Rule("8", name, _without_forms(name)) for name in sound),
        Rule("9", "alternates", _without_forms("alternates"), asked_only=True),
        *(Rule("9", name, _without_forms(name), asked_only=True) for name in (*readings, "vowel_shifts")),
        Rule("9", "wide sound", _with_names(replace(_ID_NAME, wide=_same))),
        Rule("6-9", "all of them", _with_names(replace(as_written, wide=_same))),
        Rule("2", "titles as a field", ask=_without_title, asked_only=True),
        Rule("11", "nicknames and last syllables", ask=_tokens(_not_called), asked_only=True),
        Rule("11", "nicknames as spellings ADDED", _with_names(replace(_ID_NAME, forms=_nicknamed_forms)),
             asked_only=True),
        Rule("12", "one slip of the pen", ask=_tokens(_not_near), asked_only=True),
        Rule("dates", "default dates", replace(NORMALISATION, registry_date=_default_kept, born=_default_said)),
        Rule("dates", "near years", ask=_dates(_years(YearClass.EXACT, YearClass.CONFUSED)), asked_only=True),
        Rule("dates", "confused years", ask=_dates(_years(*(set(YearClass) - {YearClass.CONFUSED}))), asked_only=True),
        Rule("dates", "day and month swapped", asked_only=True,
             ask=_dates(lambda asked: replace(asked, swapped_month=0, swapped_day=0))),
        Rule("places", "regencies", replace(NORMALISATION, place=_unresolved)),
        Rule("places", "related regencies", replace(NORMALISATION, place=_unrelated)),
        Rule("weights", "the question's own null", model=_own_null_off, asked_only=True),
    ]  # fmt: skip
    return found


# --- The sample -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Registered persons and clients of known truth: query -> province, None for nowhere."""

    registry: pl.DataFrame
    queries: pl.DataFrame
    homes: Mapping[str, str | None]


def draw(
    registry: pl.DataFrame,
    queries: pl.DataFrame,
    truth: Mapping[str, tuple[str, str] | None],
    *,
    persons: int,
    clients: int,
    seed: int,
) -> Sample:
    """Draw clients, and persons among whom all their homes are."""
    asked = queries.sample(min(clients, queries.height), seed=seed)
    found = {query: truth[query] for query in asked["query_id"]}
    known = pl.DataFrame(
        [home for home in found.values() if home is not None], schema=("record_id", "province"), orient="row"
    )
    homes = registry.join(known, on=["record_id", "province"], how="semi")
    others = registry.join(known, on=["record_id", "province"], how="anti")
    rest = others.sample(max(0, min(persons - homes.height, others.height)), seed=seed)
    return Sample(pl.concat([homes, rest]), asked, {query: home and home[1] for query, home in found.items()})


class Bench:
    """Asks the sample's clients under one rule set after another. The indexes of the shipped rules are kept."""

    def __init__(self, sample: Sample, model: MatchModel, keys: FieldKeys, now: datetime, today: date) -> None:
        self._sample = sample
        self._model = model
        self._keys = keys
        self._now = now
        self._today = today
        self._shipped = tempfile.TemporaryDirectory(prefix="pulang-ablation-")
        build_indexes(sample.registry, Path(self._shipped.name), keys, now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shipped.cleanup()

    def answers(self, rule: Rule, threads: int) -> Answers:
        """Return the likeliest province of every client without a rule; who cannot be asked claims nothing."""
        if rule.asked_only:
            return self._ask(rule, Path(self._shipped.name), threads)
        with tempfile.TemporaryDirectory(prefix="pulang-ablation-") as folder:
            build_indexes(self._sample.registry, Path(folder), self._keys, self._now, rules=rule.rules)
            return self._ask(rule, Path(folder), threads)

    def _ask(self, rule: Rule, folder: Path, threads: int) -> Answers:
        encoder, model = QueryEncoder(self._keys, rule.rules), rule.model(self._model)
        with open_indexes(folder, self._keys) as indexes, ThreadPoolExecutor(threads) as pool:
            asked = [_encoded(encoder, client, self._today) for _, client in clients(self._sample.queries)]
            best = list(
                pool.map(lambda query: (None, 0.0) if query is None else _best(rule.ask(query), indexes, model), asked)
            )
        homes = [self._sample.homes[query] for query in self._sample.queries["query_id"]]
        return Answers(
            probability=np.array([share for _, share in best]),
            right=np.array([code is not None and code == home for (code, _), home in zip(best, homes, strict=True)]),
            registered=np.array([home is not None for home in homes]),
        )


def _encoded(encoder: QueryEncoder, client: Client, today: date) -> EncodedQuery | None:
    try:
        return encoder.encode(client, today)
    except FieldValueError:
        return None


def _best(query: EncodedQuery, indexes: Mapping[str, EncodedIndex], model: MatchModel) -> tuple[str | None, float]:
    evidence = {code: search(index, query, model).evidence for code, index in indexes.items()}
    provinces = combine(evidence, (), model, query).provinces
    return max(provinces.items(), key=lambda item: item[1])


# --- The gold list --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gold:
    """Pairs of spellings: of one name, and of two names that must not meet (none known: no false merges shown)."""

    variants: Sequence[tuple[str, str]]
    others: Sequence[tuple[str, str]]
    source: str

    def measure(self, rules: NameRules) -> tuple[float, float]:
        """Return recall and the share of false merges, over sound, alternates and wide sound together."""
        recall = np.mean([_meet(rules, *pair) for pair in self.variants])
        merged = np.mean([_meet(rules, *pair) for pair in self.others]) if self.others else float("nan")
        return float(recall), float(merged)


def read_gold(folder: Path | None) -> Gold:
    """Read variants.tsv and nonvariants.tsv of a folder, or the variants that ship. Raises ConfigError."""
    if folder is None:
        pairs = [(a, b) for a, b, kind, _ in read_table("variants.tsv") if kind != "nickname"]
        return Gold(pairs, (), "matching/data/variants.tsv")
    try:
        with (folder / "variants.tsv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file, delimiter="\t") if row["kind"] != "nickname"]
        with (folder / "nonvariants.tsv").open(encoding="utf-8", newline="") as file:
            others = [(row["name_a"], row["name_b"]) for row in csv.DictReader(file, delimiter="\t")]
    except (OSError, KeyError, UnicodeDecodeError):
        raise ConfigError(
            f"{folder} holds no gold list", hint="variants.tsv (canonical, variant, kind) and nonvariants.tsv"
        ) from None
    return Gold([(row["canonical"], row["variant"]) for row in rows], others, str(folder))


def _meet(rules: NameRules, one: str, other: str) -> bool:
    ours, theirs = rules.parse(one).tokens, rules.parse(other).tokens
    if not ours or len(ours) != len(theirs):
        return False
    return all(_keys(rules, a) & _keys(rules, b) for a, b in zip(ours, theirs, strict=True))


def _keys(rules: NameRules, token: str) -> set[str]:
    forms = rules.forms(token)
    return {forms.sound, *forms.alternates, "~" + rules.wide(forms.sound)}


# --- The table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """What is lost without a rule: figures with all rules less figures without it, so that a loss is positive.

    best_f1: with its 95 % interval over clients drawn again, the same for both. false_merges: how many more there are.
    """

    number: str
    name: str
    best_f1: Interval
    recall_at_precision: float
    top1: float
    gold_recall: float
    false_merges: float


def losses(
    bench: Bench, gold: Gold, chosen: Sequence[Rule], *, threads: int, seed: int
) -> Iterator[tuple[Answers, Loss | None]]:
    """Yield the answers with all rules, then each rule's answers and loss. Interrupt between two at no cost."""
    everything = bench.answers(Rule("", "", asked_only=True), threads)
    yield everything, None
    base, (recall, merged) = everything.metrics(), gold.measure(_ID_NAME)
    for rule in chosen:
        answers = bench.answers(rule, threads)
        metrics = answers.metrics()
        gold_recall, gold_merged = gold.measure(rule.rules.names["id-name"])
        low, high = _paired(everything, answers, seed)
        yield (
            answers,
            Loss(
                rule.number,
                rule.name,
                Interval(base.best_f1 - metrics.best_f1, low, high),
                base.recall_at_precision - metrics.recall_at_precision,
                base.top1 - metrics.top1,
                recall - gold_recall,
                gold_merged - merged,
            ),
        )


def _paired(one: Answers, other: Answers, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference in best F1, both measured on the same redrawn clients."""
    rng = np.random.default_rng(seed)
    clients = len(one.probability)
    gaps = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, clients, clients)
        here = [Answers(each.probability[drawn], each.right[drawn], each.registered[drawn]) for each in (one, other)]
        gaps.append(here[0].metrics().best_f1 - here[1].metrics().best_f1)
    low, high = np.percentile(gaps, [2.5, 97.5])
    return float(low), float(high)


def by_loss(found: Sequence[Loss]) -> list[Loss]:
    """Sort rules, the dearest first."""
    return sorted(found, key=lambda loss: (-loss.best_f1.value, -loss.gold_recall, -loss.recall_at_precision))


@dataclass(frozen=True)
class BlockLoss:
    """Blocking with a key and without: share of true pairs compared, and pairs compared a client."""

    completeness: float
    compared: float


def skeleton_losses(sample: Sample, truth: Mapping[str, tuple[str, str] | None], keys: FieldKeys, today: date
) -> tuple[BlockLoss, BlockLoss]:  # fmt: skip
    """Rule 10 serves blocking alone: return what its blocks hold, and what those of sounds would."""
    sounds = _with_names(replace(_ID_NAME, skeleton=_same))
    return _blocked(sample, truth, BlockEncoder(keys), today), _blocked(
        sample, truth, BlockEncoder(keys, sounds), today
    )


def _blocked(
    sample: Sample, truth: Mapping[str, tuple[str, str] | None], encoder: BlockEncoder, today: date
) -> BlockLoss:
    people = list(sample.registry.iter_rows(named=True))
    row_of = {(row["record_id"], row["province"]): number for number, row in enumerate(people)}
    blocks = Blocks.build(encoder.stored(row) for row in people)
    hits = pairs = compared = 0
    for row in sample.queries.iter_rows(named=True):
        home = truth[row["query_id"]]
        candidates = blocks.candidates(encoder.asked(row, today))
        compared += len(candidates)
        if home is not None:
            pairs += 1
            hits += row_of[home] in candidates
    return BlockLoss(hits / max(pairs, 1), compared / max(sample.queries.height, 1))


def write(out: Path, found: Sequence[Loss], facts: Mapping[str, object]) -> None:
    """Write ablation.json: the table, dearest rule first, and what it was measured on."""
    out.mkdir(parents=True, exist_ok=True)
    document = {**facts, "rules": [asdict(loss) for loss in by_loss(found)]}
    (out / "ablation.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
