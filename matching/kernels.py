"""The compiled inner loops: filter similarity, name agreement, evidence classes, interning. Nothing else.

Every kernel has an explicit signature, so it is compiled (or read from numba's cache) when this module is imported:
importing is the warm-up, and no question ever pays for it. All release the GIL.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

FILTER_WORDS: Final = 8  # 512 bits: words 0-3 hold spelling, words 4-7 hold sound
HALF_BITS: Final = 256
SIMILARITY_STEPS: Final = 16  # Dice is cut into sixteenths before the two halves are combined
TOKENS_PER_STEP: Final = 1 << 14  # of all names, one after the other: their places stay in the fastest caches
CLASS_SLOTS: Final = 1 << 14  # evidence classes one pass can count; the caller asks for fewer when they do not fit
ROWS_PER_CLASS: Final = 5
ROUNDING_BITS: Final = np.float32(0.001)  # more than sums of weights in another order can differ by
BATCH_ROWS: Final = 256  # of a block in `batch_dice`: with 1024-bit filters it fills the fastest cache, and no more
LEVEL_BITS: Final = 6  # a level fits in 6 bits, so ten fields fit in one 64-bit class code

_U8 = types.uint8
_F32 = types.float32


@intrinsic
def _popcount(typingctx: Any, value: Any) -> Any:  # noqa: ARG001 - numba's signature
    """Count the set bits of a 64-bit word: llvm.ctpop, one instruction where the processor has one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - numba's signature
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@njit(
    types.void(
        types.Array(types.uint64, 2, "C", readonly=True),
        types.Array(types.uint16, 2, "C", readonly=True),
        types.UniTuple(types.uint64, FILTER_WORDS),
        types.boolean,
        types.Array(_U8, 1, "C", readonly=True),
        types.Array(_U8, 3, "C", readonly=True),
        _U8,
        types.Array(_U8, 1, "C"),
    ),
    cache=True,
    nogil=True,
    fastmath=True,
)
def token_similarity(filters, weights, query, initial, near, combine, initial_similarity, out):
    """Raise `out` to the similarity of one question filter with every registered token.

    filters: (tokens, 8) uint64. weights: (tokens, 2) uint16, set bits of the spelling and of the sound half; a
    token without sound bits is an initial. query: 8 words. initial: the question token is an initial.
    near: (tokens,) uint8, 1 where the registered token is one slip away, 2 where its bearer may be called so, else 0.
    combine: (3, 17, 17) uint8, similarity 0..255 by near, Dice of spelling and Dice of sound in sixteenths.
    out: (tokens,) uint8, only ever raised, so that the spellings of one token share it.
    """
    spelling_bits = np.int64(0)
    sound_bits = np.int64(0)
    for word in range(4):
        spelling_bits += np.int64(_popcount(query[word]))
        sound_bits += np.int64(_popcount(query[word + 4]))
    steps = np.float32(2 * SIMILARITY_STEPS)
    for i in range(filters.shape[0]):
        spelling = np.int64(0)
        sound = np.int64(0)
        for word in range(4):
            spelling += np.int64(_popcount(query[word] & filters[i, word]))
            sound += np.int64(_popcount(query[word + 4] & filters[i, word + 4]))
        here_spelling = np.int64(weights[i, 0])
        here_sound = np.int64(weights[i, 1])
        value = np.uint8(0)
        if initial or here_sound == 0:
            # An initial agrees when all the bits of the shorter side are there; two initials always carry all bits.
            if spelling == min(here_spelling, spelling_bits):
                value = initial_similarity
        else:
            a = np.int64(steps * np.float32(spelling) / np.float32(spelling_bits + here_spelling))
            b = np.int64(steps * np.float32(sound) / np.float32(sound_bits + here_sound))
            value = combine[near[i], a, b]
        out[i] = max(out[i], value)


@njit(nogil=True, fastmath=True)
def _name_level(members, similarity, token_weights, question_weights, total_asked, cells):
    used = np.int64(0)
    found = np.float32(0)
    covered = np.float32(0)
    total = np.float32(0)
    for token in members:
        total += np.float32(token_weights[token])
    for k in range(question_weights.shape[0]):
        top = np.int64(0)
        at = np.int64(-1)
        for j in range(members.shape[0]):
            if not (used >> j) & 1:
                value = np.int64(similarity[k, members[j]])
                if value > top:
                    top = value
                    at = j
        if at >= 0:
            used |= np.int64(1) << at
            share = np.float32(top) / np.float32(255)
            found += share * np.float32(question_weights[k])
            covered += share * np.float32(token_weights[members[at]])
    a = np.int64(np.float32(32) * found / total_asked + np.float32(0.001))
    b = np.int64(np.float32(32) * covered / total + np.float32(0.001))
    return cells[a, b]


@njit(
    types.void(
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(types.uint32, 1, "C", readonly=True),
        types.Array(_U8, 2, "C", readonly=True),
        types.Array(_U8, 1, "C", readonly=True),
        types.Array(_U8, 1, "C", readonly=True),
        types.Array(_U8, 1, "C", readonly=True),
        types.Array(_U8, 2, "C", readonly=True),
        types.Array(_U8, 1, "C"),
    ),
    cache=True,
    nogil=True,
    fastmath=True,
)
def name_levels(offsets, tokens, similarity, best, token_weights, question_weights, cells, out):
    """Give every distinct registered name its agreement level with the question's name.

    Each question token, rarest first, takes the most similar registered token still free. The level is read from
    the share of the question's rarity that was found and the share of the registered name's rarity that was used.

    offsets: (names + 1,) into tokens, to their end; name 0 is empty and stands for "missing". tokens: token numbers.
    similarity: (question tokens, tokens) uint8. best: (tokens,) its maximum over question tokens.
    token_weights, question_weights: rarity in quarter bits. cells: (33, 33) uint8 levels by both shares in
    thirty-seconds. out: (names,) uint8.
    """
    asked = question_weights.shape[0]
    total_asked = np.float32(0)
    for k in range(asked):
        total_asked += np.float32(question_weights[k])
    out[:] = cells[0, 0]
    out[0] = 0
    agreeing = np.empty(TOKENS_PER_STEP, np.int64)
    name, done = 0, offsets[1]
    for step in range(0, tokens.shape[0], TOKENS_PER_STEP):
        found = 0
        for at in range(step, min(step + TOKENS_PER_STEP, tokens.shape[0])):
            if best[tokens[at]] != 0:
                agreeing[found] = at
                found += 1
        for at in agreeing[:found]:
            if at < done:  # another token of a name that has its level
                continue
            while offsets[name + 1] <= at:
                name += 1
            done = offsets[name + 1]
            members = tokens[offsets[name] : done]
            out[name] = _name_level(members, similarity, token_weights, question_weights, total_asked, cells)


@njit(nogil=True)
def _count_other(levels, counts, usual, value, out):
    if levels[value] == usual:
        return np.int64(0)
    out[levels[value]] += counts[value]
    return counts[value]


@njit(
    types.void(
        types.Array(_U8, 1, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        types.int64,
        types.Array(types.int64, 1, "C"),
    ),
    cache=True,
    nogil=True,
)
def level_histogram(levels, counts, persons, out):
    """Add up persons per level.

    levels, counts: (values,) level and persons of each distinct value. persons: all of them together. out: (levels,).
    """
    # Most values have the level of the last one, "different": their counts, which no cache holds, are not read.
    usual = levels[levels.shape[0] - 1]
    left = persons
    eights = levels[: levels.shape[0] // 8 * 8].view(np.uint64)
    all_usual = np.uint64(usual) * np.uint64(0x0101010101010101)
    for eight in range(eights.shape[0]):
        if eights[eight] != all_usual:
            for value in range(8 * eight, 8 * eight + 8):
                left -= _count_other(levels, counts, usual, value, out)
    for value in range(8 * eights.shape[0], levels.shape[0]):
        left -= _count_other(levels, counts, usual, value, out)
    out[usual] += left


@njit(nogil=True)
def _may_reach(block, levels, bases, bits, order, rest, floor, places, weights):
    """List the persons of a block who may reach the floor, by their places in it; return how many.

    Field after field of the order leaves fewer of them. Whom it keeps may still lie just below: sums of another order
    differ in their last digits.
    """
    last = min(1, order.shape[0] - 1)  # the first two at once; a lone field counts once
    first, second = order[0], order[last]
    firsts, seconds = block[first], block[second]
    of_first, of_second = levels[bases[first] :], levels[bases[second] :]
    first_bits, second_bits = bits[first], bits[second] * np.float32(last)
    least = floor - ROUNDING_BITS - rest[last]
    found = 0
    for i in range(block.shape[1]):
        weight = first_bits[of_first[firsts[i]]] + second_bits[of_second[seconds[i]]]
        if weight >= least:
            places[found] = np.uint32(i)
            weights[found] = weight
            found += 1
    for place in range(2, order.shape[0]):
        f = order[place]
        numbers, field_levels, field_bits = block[f], levels[bases[f] :], bits[f]
        least = floor - ROUNDING_BITS - rest[place]
        kept = 0
        for k in range(found):
            weight = weights[k] + field_bits[field_levels[numbers[places[k]]]]
            places[kept] = places[k]
            weights[kept] = weight
            kept += np.int64(weight >= least)
        found = kept
    return found


@njit(
    types.int64(
        types.Array(types.uint32, 2, "C", readonly=True),
        types.Array(_U8, 1, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(_F32, 2, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(_F32, 1, "C", readonly=True),
        _F32,
        types.int64,
        types.Array(types.uint64, 1, "C"),
        types.Array(types.int64, 1, "C"),
        types.Array(types.uint32, 2, "C"),
    ),
    cache=True,
    nogil=True,
)
def collect_classes(block, levels, bases, bits, order, rest, floor, start, codes, counts, rows):
    """Count the persons of every evidence class whose match weight reaches `floor`.

    block: (fields, persons) uint32, number of the distinct value. levels: the levels of all distinct values, field
    after field; bases: (fields,) where each field starts. bits: (fields, 64) float32 weight of a level.
    order: (fields,) int64, in which the fields are looked at until a person cannot reach the floor. rest: (fields,)
    float32, the most that the fields after this one in that order can still add. start: row of the block's first
    person. codes: (CLASS_SLOTS,) uint64 open-addressing table of class code + 1, 0 = free; counts, rows: beside it.
    Returns the number of persons that reached the floor but found the table full.
    """
    fields = block.shape[0]
    slots = codes.shape[0]
    lost = np.int64(0)
    kept, sums = np.empty(block.shape[1], np.uint32), np.empty(block.shape[1], np.float32)
    for i in kept[: _may_reach(block, levels, bases, bits, order, rest, floor, kept, sums)]:
        weight = np.float32(0)
        code = np.uint64(0)
        for f in range(fields):
            level = levels[bases[f] + np.int64(block[f, i])]
            weight += bits[f, level]
            code = (code << np.uint64(LEVEL_BITS)) | np.uint64(level)
        if weight < floor:
            continue
        mark = code + np.uint64(1)
        slot = np.int64((mark * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)) % slots
        tries = 0
        while codes[slot] != 0 and codes[slot] != mark and tries < 256:
            slot = (slot + 1) % slots
            tries += 1
        if tries == 256:
            lost += 1
            continue
        codes[slot] = mark
        if counts[slot] < ROWS_PER_CLASS:
            rows[slot, counts[slot]] = np.uint32(start + i)
        counts[slot] += 1
    return lost


@njit(
    types.int64(
        types.Array(types.uint32, 2, "C", readonly=True),
        types.Array(_U8, 1, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(_F32, 2, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(_F32, 1, "C", readonly=True),
        _F32,
        types.Array(types.uint32, 1, "C"),
        types.Array(_F32, 1, "C"),
    ),
    cache=True,
    nogil=True,
)
def collect_rows(block, levels, bases, bits, order, rest, floor, places, weights):
    """List the persons of a block whose match weight reaches `floor`, with it; arguments as of `collect_classes`.

    places: (persons,) uint32, in the block; weights: (persons,) float32. Returns how many of them were filled.
    """
    fields = block.shape[0]
    found = np.int64(0)
    # What is found is written where it was read, or before.
    for i in places[: _may_reach(block, levels, bases, bits, order, rest, floor, places, weights)]:
        weight = np.float32(0)
        for f in range(fields):
            weight += bits[f, levels[bases[f] + np.int64(block[f, i])]]
        if weight >= floor:
            places[found] = np.uint32(i)
            weights[found] = weight
            found += 1
    return found


_READ_AHEAD: Final = 256  # names


@njit(nogil=True)
def _name_mark(tokens, start, stop):
    """Sort a name's tokens in place and hash them; 0 if it has none."""
    if start == stop:
        return np.uint64(0)
    for j in range(start + 1, stop):
        token = tokens[j]
        k = j
        while k > start and tokens[k - 1] > token:
            tokens[k] = tokens[k - 1]
            k -= 1
        tokens[k] = token
    mark = np.uint64(0x243F6A8885A308D3)
    for j in range(start, stop):
        mark ^= np.uint64(tokens[j]) + np.uint64(0x9E3779B97F4A7C15)
        mark = (mark ^ (mark >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mark = (mark ^ (mark >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mark ^= mark >> np.uint64(31)
    return max(mark, np.uint64(1))


@njit(
    types.int64(
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(types.uint32, 1, "C"),
        types.Array(types.uint64, 1, "C"),
        types.Array(types.uint32, 1, "C"),
        types.int64,
        types.Array(types.uint32, 1, "C"),
        types.Array(types.int64, 1, "C"),
    ),
    cache=True,
    nogil=True,
)
def intern_names(offsets, tokens, hashes, numbers, next_number, out, fresh):
    """Give each name of a batch its number: equal token sets get equal numbers, new ones the next free number.

    offsets: (names + 1,) into tokens. tokens: token numbers, sorted in place within each name. hashes: (slots,)
    uint64 open-addressing table, a power of two, 0 = free; numbers: (slots,) uint32 beside it. out: (names,) uint32.
    fresh: (names,) int64, filled with the batch positions of new names. Returns how many are new.
    Two different names share a 64-bit hash once in about 2^64 / names^2 builds; they would then be taken for one.
    """
    mask = np.uint64(hashes.shape[0] - 1)
    made = np.int64(0)
    marks = np.empty(_READ_AHEAD, np.uint64)
    met = np.empty(_READ_AHEAD, np.uint64)
    for first in range(0, out.shape[0], _READ_AHEAD):
        some = min(_READ_AHEAD, out.shape[0] - first)
        for k in range(some):
            marks[k] = _name_mark(tokens, offsets[first + k], offsets[first + k + 1])
        # Whatever lies in the table where each should: many waits for memory at once, instead of one after the other.
        for k in range(some):
            slot = marks[k] & mask
            met[k] = hashes[slot]
            out[first + k] = numbers[slot]
        for k in range(some):
            mark = marks[k]
            if mark == 0:
                out[first + k] = 0
            elif met[k] != mark:
                slot = mark & mask
                while hashes[slot] != 0 and hashes[slot] != mark:
                    slot = (slot + np.uint64(1)) & mask
                if hashes[slot] == 0:
                    hashes[slot] = mark
                    numbers[slot] = np.uint32(next_number + made)
                    fresh[made] = first + k
                    made += 1
                out[first + k] = numbers[slot]
    return made


@njit(
    types.void(
        types.Array(types.uint64, 1, "C", readonly=True),
        types.Array(types.uint32, 1, "C", readonly=True),
        types.Array(types.uint64, 1, "C"),
        types.Array(types.uint32, 1, "C"),
    ),
    cache=True,
    nogil=True,
)
def rehash(old_hashes, old_numbers, hashes, numbers):
    """Move an interning table of `intern_names` into a larger, empty one."""
    mask = np.uint64(hashes.shape[0] - 1)
    for i in range(old_hashes.shape[0]):
        if old_hashes[i] != 0:
            slot = old_hashes[i] & mask
            while hashes[slot] != 0:
                slot = (slot + np.uint64(1)) & mask
            hashes[slot] = old_hashes[i]
            numbers[slot] = old_numbers[i]


@njit(nogil=True)
def _count_four(question, block, word, shared):
    """Add the set bits that four words of a question share with each row of a block, (words, rows)."""
    a, b, c, d = question[word], question[word + 1], question[word + 2], question[word + 3]
    for i in range(BATCH_ROWS):
        shared[i] += np.int64(
            _popcount(a & block[word, i])
            + _popcount(b & block[word + 1, i])
            + _popcount(c & block[word + 2, i])
            + _popcount(d & block[word + 3, i])
        )


@njit(nogil=True)
def _count_eight(question, block, word, shared):
    """Count as _count_four does, eight words: written out, a row's sum stays in a register."""
    a, b, c, d = question[word], question[word + 1], question[word + 2], question[word + 3]
    e, f, g, h = question[word + 4], question[word + 5], question[word + 6], question[word + 7]
    for i in range(BATCH_ROWS):
        shared[i] += np.int64(
            _popcount(a & block[word, i])
            + _popcount(b & block[word + 1, i])
            + _popcount(c & block[word + 2, i])
            + _popcount(d & block[word + 3, i])
            + _popcount(e & block[word + 4, i])
            + _popcount(f & block[word + 5, i])
            + _popcount(g & block[word + 6, i])
            + _popcount(h & block[word + 7, i])
        )


@njit(nogil=True)
def _largest(values):
    largest = np.int64(0)
    for i in range(BATCH_ROWS):
        largest = max(largest, values[i])
    return largest


@njit(nogil=True)
def _shared_bits(question, rests, block, bits, least, factor, wanted, shared):
    """Count the set bits that a question shares with each row of a block, as long as a row may reach what is wanted.

    That is factor x shared >= wanted x (the question's set bits + the row's); least: the fewest a row has set.
    Returns whether it counted to the end.
    """
    mine = rests[0]
    for i in range(BATCH_ROWS):
        shared[i] = 0
    word = 0
    while word < question.shape[0]:
        if word + 8 <= question.shape[0]:
            _count_eight(question, block, word, shared)
            word += 8
        else:
            _count_four(question, block, word, shared)
            word += 4
        rest = rests[word // 4]
        if factor * (_largest(shared) + rest) < wanted * (mine + least):  # not even with the fewest bits
            return False
        best = np.int64(-1)
        for i in range(BATCH_ROWS):
            best = max(best, factor * (shared[i] + rest) - wanted * (mine + bits[i]))
        if best < 0:
            return False
    return True


@njit(nogil=True)
def _rests(questions):
    """Return the set bits of each question from every fourth word on: (questions, words / 4 + 1) int64."""
    words = questions.shape[1]
    rests = np.zeros((questions.shape[0], words // 4 + 1), np.int64)
    for q in range(questions.shape[0]):
        for word in range(words):
            for four in range(word // 4 + 1):
                rests[q, four] += np.int64(_popcount(questions[q, word]))
    return rests


@njit(nogil=True)
def _insert(row, overlap, total, rows, overlaps, totals, found):
    """Put a row in its place among the best of a question; the last falls out when all places are taken.

    Returns how many places are taken now.
    """
    top = rows.shape[0]
    place = found
    while place > 0:
        ours, theirs = overlap * totals[place - 1], overlaps[place - 1] * total
        if ours < theirs or (ours == theirs and row > rows[place - 1]):
            break
        place -= 1
        if place + 1 < top:
            rows[place + 1] = rows[place]
            overlaps[place + 1] = overlaps[place]
            totals[place + 1] = totals[place]
    if place < top:
        rows[place] = row
        overlaps[place] = overlap
        totals[place] = total
    return min(found + 1, top)


@njit(
    types.void(
        types.Array(types.uint64, 2, "C", readonly=True),
        types.Array(types.uint64, 3, "C", readonly=True),
        types.Array(types.int64, 2, "C", readonly=True),
        types.Array(types.int64, 2, "C", readonly=True),
        types.int64,
        types.int64,
        types.Array(types.int64, 2, "C"),
        types.Array(types.int64, 2, "C"),
        types.Array(types.int64, 2, "C"),
        types.Array(types.int64, 1, "C"),
    ),
    cache=True,
    nogil=True,
)
def batch_dice(questions, blocks, bits, ids, numerator, denominator, rows, overlaps, totals, found):
    """Keep the rows most like each of many questions by Dice, none below numerator / denominator.

    questions: (questions, words) uint64, words a multiple of 4. blocks: (blocks, words, BATCH_ROWS) uint64, filters
    turned so that one instruction takes a word of several rows; alike in their number of set bits. bits, ids:
    (blocks, BATCH_ROWS) int64, a row's set bits, 0 for padding, and which row it was. rows, overlaps, totals:
    (questions, top) int64, filled best first, equals by row; Dice is 2 x overlap / total. found: (questions,) int64,
    how many are filled. An empty filter is like nothing.
    Nothing is divided: fractions are compared by cross-multiplication, so that equal Dice are equal.
    A block is left as soon as no row of it can reach what is wanted: by its number of set bits (Swamidass and Baldi,
    2007), then by what is shared so far and the question's bits that are still to come.
    """
    top, shared, rests = rows.shape[1], np.zeros(BATCH_ROWS, np.int64), _rests(questions)
    for block in range(blocks.shape[0]):
        least, most = bits[block].min(), bits[block].max()
        for q in range(questions.shape[0]):
            mine = rests[q, 0]
            wanted, of = numerator, denominator
            if found[q] == top:  # full: only what is as good as the last one matters
                wanted, of = 2 * overlaps[q, top - 1], totals[q, top - 1]
            # The most that any row of the block can reach, by its number of bits alone.
            nearest = min(max(mine, least), most)
            if 2 * min(mine, nearest) * of < wanted * (mine + nearest):
                continue
            if not _shared_bits(questions[q], rests[q], blocks[block], bits[block], least, 2 * of, wanted, shared):
                continue
            for i in range(BATCH_ROWS):
                both, total = shared[i], mine + bits[block, i]
                if both == 0 or 2 * both * of < wanted * total:
                    continue
                found[q] = _insert(ids[block, i], both, total, rows[q], overlaps[q], totals[q], found[q])
                if found[q] == top:
                    wanted, of = 2 * overlaps[q, top - 1], totals[q, top - 1]
