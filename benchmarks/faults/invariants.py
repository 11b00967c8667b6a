"""What must hold after every step of a campaign, whatever was broken: books and what was shown in, violations out.

Pure. Books are read twice, one node after the other: what somebody has heard (in the first reading) its sender must
have on record (in the second), and what somebody was asked (first) its asker must have on record (second). So the
checker may look while nodes work.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from node.cases import SAME_BYTES_FOR
from node.findings import Concluded, ProvinceState
from node.pki.identity import Identity
from node.store import NO_REQUEST, PENDING, Direction
from node.verification import OtherHead, verify_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from benchmarks.faults.books import Books

WRONG: Final = "wrong"  # a home that is not the planted truth
FALSE_NONE: Final = "false none"  # "not registered" of somebody who is, or while somebody is silent
LOST: Final = "lost"
DOUBLED: Final = "doubled"
UNAUDITED: Final = "unaudited"
HEAD: Final = "head off"
BUDGET: Final = "budget off"
PROMISE: Final = "promise broken"  # of the fault table: what this fault alone must do
KINDS: Final = (WRONG, FALSE_NONE, LOST, DOUBLED, UNAUDITED, HEAD, BUDGET, PROMISE)

_SENT: Final = "sent"
_ANSWERED: Final = "answered"
_OTHER_EPOCH: Final = "it has no index in this key epoch"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must never be. text: names cases, provinces and numbers only."""

    kind: str
    text: str


@dataclass(frozen=True)
class Asked:
    """One question a caseworker put. truth: the home's code, None: registered nowhere.

    was_accepted: the node said that it is on record. concluded: what was shown. failure: why nothing was.
    """

    case: str
    asker: str
    truth: str | None
    was_accepted: bool
    concluded: Concluded | None
    failure: str | None


@dataclass
class Ledger:
    """What the campaign knows beside the nodes. raw: hashes of questions it sent past any node.

    answered: (case, province) of every answer that was once on record: none may be taken back.
    """

    asked: list[Asked] = field(default_factory=list)
    raw: set[bytes] = field(default_factory=set)
    answered: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True)
class Scene:
    """Everything the checker looks at. heads: of each log, the newest signed head beside its database."""

    federation: str
    before: Mapping[str, Books]
    after: Mapping[str, Books]
    ledger: Ledger
    heads: Mapping[str, bytes] = field(default_factory=dict)
    at_rest: bool = False
    """All nodes have been restarted and nothing is under way: nothing may be half-done any more."""


def check(scene: Scene) -> list[Violation]:
    """Return everything that is not as it must be."""
    found = [
        *_shown(scene),
        *_casebooks(scene),
        *_heard_is_on_record(scene),
        *_asked_is_on_record(scene),
        *_answers(scene),
        *_budgets(scene),
        *_logs(scene),
    ]
    return list(dict.fromkeys(found))


# --- what caseworkers were shown ---


def _shown(scene: Scene) -> Iterator[Violation]:
    for asked in scene.ledger.asked:
        concluded = asked.concluded
        if concluded is None:
            continue
        told = f"{asked.case} of {asked.asker}"
        if concluded.province is not None and concluded.province != asked.truth:
            yield Violation(WRONG, f"{told}: {concluded.outcome} {concluded.province}, the truth is {asked.truth}")
        if concluded.outcome == "not_registered":
            silent = [each.code for each in concluded.heard if each.state is not ProvinceState.ANSWERED]
            if asked.truth is not None:
                yield Violation(FALSE_NONE, f"{told}: not registered, the truth is {asked.truth}")
            elif silent:
                yield Violation(FALSE_NONE, f"{told}: not registered while {', '.join(silent)} said nothing")
        books = scene.after[asked.asker]
        rows = [row for row in books.rows("questions") if row["case_reference"] == asked.case]
        if rows and all(row["concluded_at"] is None for row in rows):
            yield Violation(UNAUDITED, f"{told}: a conclusion was shown, none is on record")
        on_record = {
            entry.peer
            for entry in books.audit
            if (entry.direction, entry.case_reference, entry.outcome) == (Direction.ASKED, asked.case, _ANSWERED)
        }
        for heard in concluded.heard:
            if heard.state is ProvinceState.ANSWERED and heard.code not in on_record:
                yield Violation(UNAUDITED, f"{told}: the answer of {heard.code} was shown, its row is not there")


# --- what askers have on record ---


def _casebooks(scene: Scene) -> Iterator[Violation]:
    truth = {asked.case: asked.truth for asked in scene.ledger.asked}
    for code, books in scene.after.items():
        cases = {row["question_id"]: row["case_reference"] for row in books.rows("questions")}
        yield from _questions(scene, code, books)
        sent = Counter(
            (entry.case_reference, entry.peer)
            for entry in books.audit
            if entry.direction is Direction.ASKED and entry.outcome == _SENT
        )
        sent -= Counter(
            (entry.case_reference, entry.peer)
            for entry in books.audit
            if entry.direction is Direction.ASKED and (entry.reason or "").startswith(_OTHER_EPOCH)
        )
        for row in books.rows("question_provinces"):
            case, province = cases[row["question_id"]], row["province"]
            tries = sent.pop((case, province), 0)
            if tries != row["attempts"]:
                kind = LOST if tries < row["attempts"] else DOUBLED
                yield Violation(kind, f"{case} at {province}: {row['attempts']} tries, {tries} rows say so")
            if row["answered_at"] is not None:
                scene.ledger.answered.add((case, province))
            elif (case, province) in scene.ledger.answered:
                yield Violation(LOST, f"{case}: the answer of {province} was on record, and is not any more")
        for case, province in sent:
            yield Violation(LOST, f"{case} was sent to {province}, and {code} has no such case")
        for row in books.rows("questions"):
            if row["province"] is not None and row["province"] != truth.get(row["case_reference"], row["province"]):
                yield Violation(WRONG, f"{row['case_reference']} of {code}: on record is {row['province']}")


def _questions(scene: Scene, code: str, books: Books) -> Iterator[Violation]:
    known = Counter(row["case_reference"] for row in books.rows("questions"))
    silent: dict[str, list[str]] = defaultdict(list)
    for row in books.rows("question_provinces"):
        if row["answered_at"] is None:
            silent[row["question_id"]].append(row["province"])
    for asked in scene.ledger.asked:
        if asked.asker != code:
            continue
        if asked.was_accepted and not known[asked.case]:
            yield Violation(LOST, f"{asked.case} was accepted, and {code} does not know it")
        if known[asked.case] > 1:
            yield Violation(DOUBLED, f"{asked.case} stands {known[asked.case]} times in the casebook of {code}")
    truth = {asked.case: asked.truth for asked in scene.ledger.asked}
    for row in books.rows("questions"):
        if row["outcome"] == "not_registered" and (silent[row["question_id"]] or truth.get(row["case_reference"])):
            yield Violation(FALSE_NONE, f"{row['case_reference']} of {code}: on record as not registered")
        if scene.at_rest and silent[row["question_id"]]:
            who = ", ".join(silent[row["question_id"]])
            yield Violation(LOST, f"{row['case_reference']} of {code}: {who} has never answered")


# --- between askers and answerers ---


def _heard_is_on_record(scene: Scene) -> Iterator[Violation]:
    """Every answer somebody has, its answerer committed before it left."""
    answers = {
        code: {
            (entry.peer, entry.request_sha256): entry
            for entry in books.audit
            if entry.direction is Direction.ANSWERED and entry.outcome == _ANSWERED
        }
        for code, books in scene.after.items()
    }
    for code, books in scene.before.items():
        for entry in books.audit:
            if entry.direction is not Direction.ASKED or entry.outcome != _ANSWERED or entry.peer not in answers:
                continue
            if (code, entry.request_sha256) not in answers[entry.peer]:
                yield Violation(
                    UNAUDITED, f"{entry.case_reference}: {code} has an answer that {entry.peer} has no row of"
                )


def _asked_is_on_record(scene: Scene) -> Iterator[Violation]:
    """Every question somebody received, its asker committed before it was sent."""
    sent = {
        code: {
            entry.request_sha256
            for entry in books.audit
            if entry.direction is Direction.ASKED and entry.outcome == _SENT
        }
        for code, books in scene.after.items()
    }
    for code, books in scene.before.items():
        received = {
            (entry.peer, entry.request_sha256)
            for entry in books.audit
            if entry.direction is Direction.ANSWERED and entry.request_sha256 != NO_REQUEST and entry.nonce is not None
        }
        received |= {(row["peer"], bytes.fromhex(row["request_sha256"])) for row in books.rows("nonces")}
        for peer, digest in sorted(received):
            if peer in sent and digest not in sent[peer] and digest not in scene.ledger.raw:
                yield Violation(UNAUDITED, f"{code} was asked {digest.hex()[:12]} by {peer}, which has no row of it")


def _answers(scene: Scene) -> Iterator[Violation]:
    for code, books in scene.after.items():
        entries = books.audit
        pending = {entry.number: entry for entry in entries if entry.outcome == PENDING}
        asked_anew = _asked_anew(scene, code)
        times: Counter[tuple[str, bytes]] = Counter()
        by_case: dict[tuple[str, str], dict[bytes, datetime]] = defaultdict(dict)
        handles = Counter((row["peer"], row["question_nonce"]) for row in books.rows("handles"))
        for entry in entries:
            if entry.direction is not Direction.ANSWERED or entry.outcome != _ANSWERED:
                continue
            told = f"row {entry.number} of {code}"
            before = pending.get(entry.concerns or 0)
            if before is None or before.request_sha256 != entry.request_sha256:
                yield Violation(UNAUDITED, f"{told}: an answer without the row that must come before the search")
            given = handles[entry.peer, (entry.nonce or b"").hex()]
            if entry.peer != code:  # our own questions have no claim: asked again after a kill, they are searched again
                times[entry.peer, entry.request_sha256] += 1
                by_case[entry.peer, entry.case_reference or ""].setdefault(entry.request_sha256, entry.at)
                if given != entry.handles_given:
                    yield Violation(UNAUDITED, f"{told}: {entry.handles_given} handles given, {given} on record")
        for (peer, digest), count in times.items():
            if count > 1:
                yield Violation(DOUBLED, f"{code} answered {digest.hex()[:12]} of {peer} {count} times anew")
        for (peer, case), digests in by_case.items():
            if digests.keys() <= scene.ledger.raw:
                continue
            at = sorted(digests.values())
            # Whoever has not heard an answer for so long asks in fresh bytes: docs/threat-model.md, T29.
            late = sum(later - earlier >= SAME_BYTES_FOR for earlier, later in pairwise(at))
            allowed = 1 + asked_anew[peer, case] + late
            if len(at) > allowed:
                apart = " and ".join(f"{(later - earlier).total_seconds():.0f}" for earlier, later in pairwise(at))
                yield Violation(
                    DOUBLED,
                    f"{code} answered {case} of {peer} as {len(at)} questions, {apart} s apart; {allowed} were meant",
                )


def _asked_anew(scene: Scene, code: str) -> Counter[tuple[str, str]]:
    """Return how often each asker meant to ask this province about a case once more: its registry had changed."""
    meant: Counter[tuple[str, str]] = Counter()
    for asker, books in scene.after.items():
        cases = {row["question_id"]: row["case_reference"] for row in books.rows("questions")}
        for event in books.rows("case_events"):
            if event["kind"] == "reopened" or (event["kind"] == "renewed" and event["detail"] == code):
                meant[asker, cases[event["question_id"]]] += 1
    return meant


def _budgets(scene: Scene) -> Iterator[Violation]:
    """Every question that was to be searched, and no other, was debited, once."""
    for code, books in scene.after.items():
        claimed = Counter(row["peer"] for row in books.rows("nonces"))
        used: Counter[tuple[str, str]] = Counter()
        for row in books.rows("spendings"):
            used[row["peer"], row["scope"]] += row["used"]
        hashes: dict[str, set[bytes]] = defaultdict(set)
        for entry in books.audit:
            if entry.outcome == PENDING and entry.peer != code:
                hashes[entry.peer].add(entry.request_sha256)
        for peer in sorted(claimed.keys() | {peer for peer, _ in used} | hashes.keys()):
            new, repeats = used[peer, "peer"], used[peer, "repeat"]
            told = f"{code} for {peer}"
            if new + repeats != claimed[peer]:
                yield Violation(BUDGET, f"{told}: {new} new and {repeats} repeats debited, {claimed[peer]} claimed")
            if not used[peer, "operator"] == used[peer, "case"] == new:
                yield Violation(
                    BUDGET, f"{told}: {new} debited of the peer, {used[peer, 'operator']} of its operators, "
                    f"{used[peer, 'case']} of its cases"
                )  # fmt: skip
            if len(hashes[peer]) != claimed[peer]:
                yield Violation(BUDGET, f"{told}: {claimed[peer]} claimed, {len(hashes[peer])} have a PENDING row")


# --- logs ---


def _logs(scene: Scene) -> Iterator[Violation]:
    for code, books in scene.after.items():
        head = scene.heads.get(code)
        others = [OtherHead("the head beside the database", head)] if head else []
        verdict = verify_log(books.view(Identity(scene.federation, code)), others)
        for finding in verdict.findings:
            yield Violation(HEAD, f"{code}: {finding.text}")
        if scene.at_rest and verdict.unfinished:
            yield Violation(HEAD, f"{code}: {verdict.unfinished} questions are pending, and nobody answers them")


def open_cases(books: Sequence[Books]) -> list[str]:
    """Return the cases that still wait for a province."""
    waiting = []
    for each in books:
        cases = {row["question_id"]: row["case_reference"] for row in each.rows("questions")}
        silent = {row["question_id"] for row in each.rows("question_provinces") if row["answered_at"] is None}
        waiting += [cases[question] for question in sorted(silent)]
    return waiting
