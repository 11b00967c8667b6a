"""The compiled inner loops of an import: names into words, words into tokens, tokens into keyed encodings.

Nothing here knows what a name means: what a word or a frame stands for comes in tables that `matching.vocabulary` fills
from `matching.names`. As in `kernels`, every kernel that Python calls has an explicit signature and is compiled, or
read from numba's cache, when this module is imported; all release the GIL.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

WHOLE: Final = 255  # stands for a name's number of tokens where it must be parsed whole
NO_FRAME: Final = -1  # every word of the name means the same wherever it stands
PLAIN: Final = -4  # every word of the name is a token as it is, and none is joined to the one before it
NOT_READ: Final = -2  # the name holds more than letters, spaces, dots that end a word, and a tail after a comma
ASKED: Final = -3  # whether an article belongs to the word after it is not known yet
LITERAL, ORDINARY, ARTICLE, UNSORTED = 0, 1, 2, 3  # kinds of words
ITSELF: Final = -1  # what most words expand to
JOINED: Final = 0xFFFFFFFF  # in a frame, an ordinary word that the article before it belongs to
APART: Final = 0xFFFFFFFE  # of an article and a word: they are two
UNREADABLE: Final = 0xFFFFFFFD  # of an article and a word: names that hold them are parsed whole
UNKNOWN: Final = 0xFFFFFFFF
SCRATCH_TOKENS: Final = 64
LANES: Final = 64  # messages hashed side by side: fewer, and the compiler does not use vector instructions
HASH_BLOCK: Final = 128  # bytes of a BLAKE2b block; longer messages are not for these kernels
GRAM_CODES: Final = 128  # characters of a bigram are ASCII
HALF_WORDS: Final = 4  # of a filter

_U8 = types.Array(types.uint8, 1, "C", readonly=True)
_U32 = types.Array(types.uint32, 1, "C", readonly=True)
_I32 = types.Array(types.int32, 1, "C", readonly=True)
_I64 = types.Array(types.int64, 1, "C", readonly=True)
_U8_OUT = types.Array(types.uint8, 1, "C")
_I32_OUT = types.Array(types.int32, 1, "C")
_U32_OUT = types.Array(types.uint32, 1, "C")
_U64_OUT = types.Array(types.uint64, 1, "C")
_I64_OUT = types.Array(types.int64, 1, "C")
_U64_2D_OUT = types.Array(types.uint64, 2, "C")

_SPACE: Final = 32
_DOT: Final = 46
_COMMA: Final = 44
_QUOTE: Final = 39
_BACKQUOTE: Final = 96
_LOWER: Final = 32  # the bit that makes a letter lower case
_PRIME: Final = 0x9E3779B97F4A7C15
_MIX: Final = 0xBF58476D1CE4E5B9
_SEED: Final = 0x243F6A8885A308D3


@njit(nogil=True)
def _begin(word_ends, name):
    """Return where a name's words begin: where those before end, e, or -1 - e behind a name that was not read."""
    return abs(word_ends[name] + (word_ends[name] < 0))


@njit(nogil=True)
def _is_letter(code):
    return np.uint8((code | _LOWER) - 97) < 26


@njit(nogil=True)
def _is_dropped(code):
    """Whether a character falls out of a name, and what stands on both sides of it is one word."""
    return code in (_QUOTE, _BACKQUOTE) or np.uint8(code - 48) < 10


@njit(nogil=True)
def _is_tail(text, start, stop):
    for i in range(start, stop):
        code = text[i]
        if not (_is_letter(code) or _is_dropped(code) or code in (_SPACE, _DOT, _COMMA)):
            return False
    return True


@njit(nogil=True)
def _count_words(text, start, stop):
    """Count the words of a name, what follows a comma as one; -1 if the name holds anything else."""
    words = 0
    before = np.uint8(_SPACE)
    for i in range(start, stop):
        code = text[i]
        if _is_dropped(code):
            continue
        if _is_letter(code):
            if before == _SPACE:
                words += 1
        elif code == _DOT:
            if not _is_letter(before) or (i + 1 < stop and text[i + 1] != _SPACE and text[i + 1] != _COMMA):
                return -1
        elif code == _COMMA:
            return words + 1 if words and _is_tail(text, i, stop) else -1
        elif code != _SPACE:
            return -1
        before = code
    return words


@njit(nogil=True)
def _stirred(mark, item):
    mark = (mark ^ np.uint64(item)) * np.uint64(_PRIME)
    return mark ^ (mark >> np.uint64(32))


@njit(nogil=True)
def _mixed(mark):
    mark = (mark ^ (mark >> np.uint64(30))) * np.uint64(_MIX)
    mark ^= mark >> np.uint64(29)
    return max(mark, np.uint64(1))


@njit(nogil=True)
def _mark(items, start, stop):
    """Hash a sequence; never 0, which stands for a free place in a table."""
    mark = np.uint64(_SEED)
    for i in range(start, stop):
        mark = _stirred(mark, items[i])
    return _mixed(mark)


@njit(nogil=True)
def _find(items, ends, known, table, stop):
    """Find the sequence at the end of `items`, from ends[known] to `stop`, among those before it.

    table: (slots,) uint64, a power of two, open addressing: half of a sequence's hash above its number + 1; 0 is free.
    Returns the sequence's number; `known` for a new one, which then has its place in the table.
    """
    start = ends[known]
    mark = _mark(items, start, stop) >> np.uint64(32)
    mask = np.uint64(table.shape[0] - 1)
    slot = mark & mask
    while table[slot] != 0:
        if table[slot] >> np.uint64(32) == mark:
            number = np.int64(table[slot] & np.uint64(0xFFFFFFFF)) - 1
            first = ends[number]
            same = ends[number + 1] - first == stop - start
            i = 0
            while same and i < stop - start:
                same = items[first + i] == items[start + i]
                i += 1
            if same:
                return number
        slot = (slot + np.uint64(1)) & mask
    table[slot] = (mark << np.uint64(32)) | np.uint64(known + 1)
    ends[known + 1] = stop
    return known


@njit(types.void(types.Array(types.uint64, 1, "C", readonly=True), _U64_OUT), cache=True, nogil=True)
def spread(table, larger):
    """Move a table of sequences into a larger, empty one."""
    mask = np.uint64(larger.shape[0] - 1)
    for i in range(table.shape[0]):
        if table[i] != 0:
            slot = (table[i] >> np.uint64(32)) & mask
            while larger[slot] != 0:
                slot = (slot + np.uint64(1)) & mask
            larger[slot] = table[i]


# A word's first sixteen bytes, as two numbers, are nearly always the whole of it: to compare those is to compare words.
_ONE: Final = np.uint64(1)
_EIGHT: Final = np.uint64(8)
_SIXTEEN: Final = np.uint64(16)
_TOP_BYTE: Final = np.uint64(56)
_HALF: Final = np.uint64(32)
_LOW_HALF: Final = np.uint64(0xFFFFFFFF)
_NOTHING: Final = np.uint64(0)


@njit(nogil=True)
def _word_mark(first, second, items, start, stop):
    """Hash a word, half a hash: its first sixteen bytes, and one by one those from `start`."""
    mark = _stirred(_stirred(np.uint64(_SEED), first), second)
    for i in range(start, stop):
        mark = _stirred(mark, items[i] | _LOWER)
    return _mixed(mark) >> _HALF


@njit(nogil=True)
def _same_ending(items, start, stop, letters, letter_ends, number):
    """Whether a word of sixteen letters or more is a known one, if both begin with the same sixteen."""
    length, known = np.int64(stop - start), letter_ends[number]
    same = letter_ends[number + 1] - known == length
    i = 16
    while same and i < length:
        same = letters[known + i] == items[np.int64(start) + i] | _LOWER
        i += 1
    return same


@njit(nogil=True)
def _add_word(first, second, mark, slot, items, start, stop, letters, letter_ends, heads, known, table):
    """Make a word known whose place in the table is `slot`."""
    table[slot] = (mark << _HALF) | np.uint64(known + 1)
    end, length = letter_ends[known], np.int64(stop - start)
    for i in range(length):
        letters[end + i] = items[np.int64(start) + i] | _LOWER
    letter_ends[known + 1] = end + length
    heads[known, 0] = first
    heads[known, 1] = second


@njit(nogil=True)
def _number_word(items, start, stop, letters, letter_ends, heads, known, table):
    """Return a word's number, `known` for one that was not known before and is now.

    items[start:stop]: the word, capitals as good as small letters; no byte of it is 0. letters, letter_ends, table: as
    in `_find`. heads: (words, 2), first sixteen bytes of the known ones, 0 where they are over.
    """
    first, second = _NOTHING, _NOTHING
    for i in range(start, min(stop, start + 8)):
        first |= np.uint64(items[i] | _LOWER) << np.uint64(8 * (i - start))
    for i in range(start + 8, min(stop, start + 16)):
        second |= np.uint64(items[i] | _LOWER) << np.uint64(8 * (i - start - 8))
    mark = _word_mark(first, second, items, start + 16, stop)
    mask = np.uint64(table.shape[0]) - _ONE
    slot = mark & mask
    while table[slot] != 0:
        number = np.int64(table[slot] & _LOW_HALF) - 1
        if (  # the same stands in `_split_plain`
            table[slot] >> _HALF == mark
            and heads[number, 0] == first
            and heads[number, 1] == second
            and (second >> _TOP_BYTE == 0 or _same_ending(items, start, stop, letters, letter_ends, number))
        ):
            return number
        slot = (slot + _ONE) & mask
    _add_word(first, second, mark, slot, items, start, stop, letters, letter_ends, heads, known, table)
    return known


@njit(types.int64(_U8, _U8_OUT, _I64_OUT, _U64_2D_OUT, types.int64, _U64_OUT), cache=True, nogil=True)
def number_word(word, letters, letter_ends, heads, known, table):
    """Give a number to one word; the tables are those of `split_names`."""
    return _number_word(word, 0, word.shape[0], letters, letter_ends, heads, known, table)


@njit(types.void(_U8, _I64, _U64_OUT), cache=True, nogil=True)
def fill_marks(letters, letter_ends, marks):
    """Fill a table of the hashes of words, a power of two long, 0 where it is free."""
    mask = np.uint64(marks.shape[0] - 1)
    for word in range(letter_ends.shape[0] - 1):
        mark = _mark(letters, letter_ends[word], letter_ends[word + 1])
        slot = mark & mask
        while marks[slot] != 0 and marks[slot] != mark:
            slot = (slot + np.uint64(1)) & mask
        marks[slot] = mark


@njit(nogil=True)
def _holds(marks, mark):
    mask = np.uint64(marks.shape[0] - 1)
    slot = mark & mask
    while marks[slot] != 0 and marks[slot] != mark:
        slot = (slot + np.uint64(1)) & mask
    return marks[slot] == mark


@njit(nogil=True)
def _has_halves(letters, start, stop, least, marks):
    """Whether a word may be two of the words behind `marks` in a row, each of `least` letters or more."""
    first = np.uint64(_SEED)
    for i in range(start, stop - least):
        first = _stirred(first, letters[i])
        if i + 1 - start >= least and _holds(marks, _mixed(first)) and _holds(marks, _mark(letters, i + 1, stop)):
            return True
    return False


@njit(nogil=True)
def _begins(letters, start, stop, beginnings, beginning_ends):
    for k in range(beginning_ends.shape[0] - 1):
        same = beginning_ends[k + 1] - beginning_ends[k] <= stop - start
        i = beginning_ends[k]
        while same and i < beginning_ends[k + 1]:
            same = letters[start + i - beginning_ends[k]] == beginnings[i]
            i += 1
        if same:
            return True
    return False


@njit(
    types.void(_U8, _I64, types.int64, types.int64, _U8, _I64, types.int64, _U64_OUT, _U8_OUT), cache=True, nogil=True
)
def sort_words(letters, letter_ends, first, stop, beginnings, beginning_ends, least, marks, kinds):
    """Find the words from `first` to `stop` that are ordinary and expand to themselves; the others stay UNSORTED.

    letters, letter_ends: as in `split_names`. beginnings, beginning_ends: with none of these such a word begins.
    marks: of `fill_marks`: nor is it two of these in a row. kinds: (words,) uint8.
    """
    for word in range(first, stop):
        start, end = letter_ends[word], letter_ends[word + 1]
        plain = kinds[word] == UNSORTED
        for i in range(start, end):
            plain &= np.uint8(letters[i] - 97) < 26
        shown = plain and _begins(letters, start, end, beginnings, beginning_ends)
        if plain and not shown and not _has_halves(letters, start, end, least, marks):
            kinds[word] = ORDINARY


@njit(nogil=True)
def _packed_letters(text, start, stop):
    """Return the letters from `start` on, up to eight and as small ones, as one number, and where they end."""
    packed = _NOTHING
    i = start
    until = min(stop, start + _EIGHT)
    while i < until and _is_letter(text[i]):
        packed |= np.uint64(text[i] | _LOWER) << (_EIGHT * (i - start))
        i += _ONE
    return packed, i


@njit(nogil=True)
def _split_plain(
    text, ends, most_bytes, most_words, table, letters, letter_ends, heads, words, word_ends, name, known, most_known,
    room,
):  # fmt: skip
    """Split names of letters and spaces, as most are; return the number of the first that is none, and known words.

    Stops where there may be no room, too. What `_number_word` does stands here once more, and places are unsigned: to
    hand arrays to a function takes longer than to look a word up, and a signed place is looked at for its sign.
    """
    used = _begin(word_ends, name)
    mask = np.uint64(table.shape[0]) - _ONE
    while name < ends.shape[0] - 1 and known < most_known and letter_ends[known] < room:
        i, stop = np.uint64(ends[name]), np.uint64(ends[name + 1])
        count = most_words + 1 if ends[name + 1] - ends[name] > most_bytes else 0
        while count <= most_words:
            while i < stop and text[i] == _SPACE:
                i += _ONE
            if i == stop:
                break
            begin = i
            first, i = _packed_letters(text, begin, stop)
            second = _NOTHING
            if i == begin + _EIGHT:
                second, i = _packed_letters(text, i, stop)
                while i < stop and _is_letter(text[i]):
                    i += _ONE
            if count == most_words or (i < stop and text[i] != _SPACE):
                count = most_words + 1
                break
            mark = _word_mark(first, second, text, begin + _SIXTEEN, i)
            slot = mark & mask
            number = known
            while table[slot] != 0:
                one = (table[slot] & _LOW_HALF) - _ONE
                if (  # the same stands in `_number_word`
                    table[slot] >> _HALF == mark
                    and heads[one, 0] == first
                    and heads[one, 1] == second
                    and (second >> _TOP_BYTE == 0 or _same_ending(text, begin, i, letters, letter_ends, one))
                ):
                    number = np.int64(one)
                    break
                slot = (slot + _ONE) & mask
            if number == known:
                _add_word(first, second, mark, slot, text, begin, i, letters, letter_ends, heads, known, table)
                known += 1
            words[used + count] = np.uint32(number)
            count += 1
        if count > most_words:
            break
        used += count
        name += 1
        word_ends[name] = used
    return name, known


@njit(nogil=True)
def _split_dotted(text, start, stop, table, letters, letter_ends, heads, words, known):
    """Split a name that `_count_words` has counted; return how many words it has, and how many are known."""
    used = 0
    end = letter_ends[known]
    tail = False
    for i in range(start, stop + 1):
        code = text[i] if i < stop else np.uint8(_SPACE)
        if _is_dropped(code):
            continue
        ended = i == stop or (not tail and code in (_SPACE, _COMMA))
        begin = letter_ends[known]
        if ended and end > begin:
            number = _number_word(letters, begin, end, letters, letter_ends, heads, known, table)
            known += number == known
            words[used] = np.uint32(number)
            used += 1
            end = letter_ends[known]
        tail |= code == _COMMA
        if tail or not ended:
            letters[end] = code
            end += 1
    return used, known


@njit(
    types.void(
        _U8, _I64, types.int64, types.int64, _U64_OUT, _U8_OUT, _I64_OUT, _U64_2D_OUT, _U32_OUT, _I64_OUT, _I64_OUT
    ),
    cache=True,
    nogil=True,
)
def split_names(text, ends, most_bytes, most_words, table, letters, letter_ends, heads, words, word_ends, progress):
    """Split names into words, lower case and with the dot that ends some of them, and number the words.

    Quotes and digits are dropped; all that follows a comma is one word with it.

    text, ends: name i is text[ends[i] : ends[i + 1]], ASCII or UTF-8. table: of words. letters, letter_ends: word w is
    letters[letter_ends[w] : letter_ends[w + 1]]; heads: (words, 2) uint64, its first sixteen bytes.
    words: word numbers, name after name; word_ends: (names + 1,).
    progress: (names done, words known), and on return the new ones. Stops before a name for whose words there may be
    no room. A name of other characters, or longer than `most_bytes` or `most_words`, has the words end -1 - the last.
    """
    name = progress[0]
    known = progress[1]
    # A name that turns out not to be plain leaves words known, and is split once more.
    room = letters.shape[0] - 2 * most_bytes
    most_known = min(table.shape[0] // 2, letter_ends.shape[0] - 1, heads.shape[0]) - 2 * most_words
    while True:
        name, known = _split_plain(
            text, ends, most_bytes, most_words, table, letters, letter_ends, heads, words, word_ends, name, known,
            most_known, room,
        )  # fmt: skip
        if name == ends.shape[0] - 1 or known >= most_known or letter_ends[known] >= room:
            break
        used = _begin(word_ends, name)
        start, stop = ends[name], ends[name + 1]
        count = _count_words(text, start, stop) if stop - start <= most_bytes else -1
        name += 1
        if 0 <= count <= most_words:
            count, known = _split_dotted(text, start, stop, table, letters, letter_ends, heads, words[used:], known)
            word_ends[name] = used + count
        else:
            word_ends[name] = -1 - used
    progress[0] = name
    progress[1] = known


@njit(nogil=True)
def _paired(first, second, pairs, joined):
    """Return what two numbers make together, UNKNOWN if there is no such pair."""
    key = (np.uint64(first) << np.uint64(32)) | np.uint64(second)
    mask = np.uint64(pairs.shape[0] - 1)
    slot = _mixed(key) & mask
    while pairs[slot] != np.uint64(0xFFFFFFFFFFFFFFFF):
        if pairs[slot] == key:
            return joined[slot]
        slot = (slot + np.uint64(1)) & mask
    return np.uint32(UNKNOWN)


@njit(types.void(_U32, _U32, _U32, _U64_OUT, _U32_OUT), cache=True, nogil=True)
def fill_pairs(first, second, together, pairs, joined):
    """Fill an open-addressing table of pairs; pairs: all bits set where it is free."""
    mask = np.uint64(pairs.shape[0] - 1)
    for i in range(first.shape[0]):
        key = (np.uint64(first[i]) << np.uint64(32)) | np.uint64(second[i])
        slot = _mixed(key) & mask
        while pairs[slot] != np.uint64(0xFFFFFFFFFFFFFFFF):
            slot = (slot + np.uint64(1)) & mask
        pairs[slot] = key
        joined[slot] = together[i]


@njit(nogil=True)
def _frame(words, start, stop, kinds, pairs, joined, items, end):
    """Write a name's frame; return where it ends, or ASKED or NOT_READ.

    A word that an article belongs to is replaced by the joined one.
    """
    for i in range(start, stop):
        item = words[i] + np.uint32(1)
        if kinds[words[i]] == ORDINARY:
            item = np.uint32(0)
            after_article = i > start and kinds[words[i - 1]] == ARTICLE
            if after_article and (i - 1 == start or kinds[words[i - 2]] != ARTICLE):
                both = _paired(words[i - 1], words[i], pairs, joined)
                if both == UNKNOWN:
                    return ASKED
                if both == UNREADABLE:
                    return NOT_READ
                if both != APART:
                    item = np.uint32(JOINED)
        items[end] = item
        end += 1
    for i in range(start + 1, stop):
        if items[end - stop + i] == JOINED:
            words[i] = _paired(words[i - 1], words[i], pairs, joined)
    return end


@njit(
    types.int64(
        _U32_OUT, _I64, _U8, _U8, types.Array(types.uint64, 1, "C", readonly=True), _U32, _U64_OUT, _U32_OUT, _I64_OUT,
        types.int64, _I32_OUT,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def number_frames(words, word_ends, kinds, plain, pairs, joined, table, items, item_ends, known, frames):
    """Give numbers to the frames of names: which words that matter to their neighbours stand where among ordinary ones.

    words, word_ends: of `split_names`; a word that an article belongs to is replaced in `words` by the joined one.
    kinds: (words,) uint8. plain: (words,) uint8, whether a word is ordinary and its own one token. pairs, joined: table
    of articles and ordinary words, by number, and what they are together: a word, APART or UNREADABLE. table: frames'.
    items, item_ends: frame f is items[item_ends[f] : item_ends[f + 1]]: a word's number + 1, 0 for an ordinary word, or
    JOINED. frames: (names,) int32, ASKED for those to be numbered: set to a frame's number, PLAIN, NO_FRAME, or
    NOT_READ, also where there is no room for a frame; ASKED if a pair is missing. Returns how many frames are known.
    """
    most = min(table.shape[0] // 2, item_ends.shape[0] - 2)
    for name in range(frames.shape[0]):
        if frames[name] != ASKED:
            continue
        frames[name] = NOT_READ
        if word_ends[name + 1] < 0:
            continue
        start = _begin(word_ends, name)
        stop = word_ends[name + 1]
        i = start
        while i < stop and plain[words[i]]:
            i += 1
        if i == stop:
            frames[name] = PLAIN
            continue
        while i < stop and kinds[words[i]] == ORDINARY:
            i += 1
        if i == stop:
            frames[name] = NO_FRAME
        elif known < most and item_ends[known] + stop - start <= items.shape[0]:
            end = _frame(words, start, stop, kinds, pairs, joined, items, item_ends[known])
            if end < 0:
                frames[name] = end
                continue
            number = _find(items, item_ends, known, table, end)
            known += number == known
            frames[name] = number
    return known


@njit(nogil=True)
def _append(tokens, count, token, seconds, pairs, joined):
    """Append a token, or join it to the one before; return how many there are."""
    if count and token < seconds.shape[0] and seconds[token]:
        both = _paired(tokens[count - 1], token, pairs, joined)
        if both != UNKNOWN:
            tokens[count - 1] = both
            return count
    if count == SCRATCH_TOKENS:
        return count
    tokens[count] = token
    return count + 1


@njit(nogil=True)
def _expand(word, expansion_of, expansions, expansion_ends, seconds, pairs, joined, tokens, count):
    """Append what a word expands to; return how many tokens there are."""
    place = expansion_of[word]
    if place == ITSELF:
        return _append(tokens, count, word, seconds, pairs, joined)
    for j in range(expansion_ends[place], expansion_ends[place + 1]):
        count = _append(tokens, count, expansions[j], seconds, pairs, joined)
    return count


@njit(
    types.void(
        _U32, _I64, _I32, _U8, _I32, _U32, _I64, _I64, _I64, _U8,
        types.Array(types.uint64, 1, "C", readonly=True), _U32, types.Array(types.uint32, 2, "C"), _U8_OUT,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def expand_names(
    words, word_ends, frames, plain, expansion_of, expansions, expansion_ends, parts, part_ends, seconds, pairs, joined,
    out, lengths,
):  # fmt: skip
    """Write every name's tokens.

    words, word_ends, frames, plain: of the kernels above. A token is a word that stands for itself. expansion_of:
    (words,) int32, ITSELF or which expansion; expansions, expansion_ends: the tokens of each. parts, part_ends:
    of a frame, a token's number, or -1 - k for the tokens of the name's word k; a frame whose first part is beyond all
    tokens must be parsed whole. seconds: (tokens,) uint8, whether a token may join the one before it; pairs, joined:
    table of those. out: (names, most tokens) uint32; lengths: (names,) uint8, WHOLE for a name to be parsed whole.
    """
    tokens = np.empty(SCRATCH_TOKENS, np.uint32)
    for name in range(frames.shape[0]):
        frame = frames[name]
        lengths[name] = WHOLE
        start = _begin(word_ends, name)
        if frame == PLAIN:
            count = word_ends[name + 1] - start
            if count <= out.shape[1]:
                for i in range(count):
                    out[name, i] = words[start + i]
                lengths[name] = count
            continue
        if frame == NOT_READ:
            continue
        count = 0
        first, last = (part_ends[frame], part_ends[frame + 1]) if frame >= 0 else (0, word_ends[name + 1] - start)
        if frame >= 0 and first < last and parts[first] >= UNKNOWN:
            continue
        for k in range(first, last):
            part = parts[k] if frame >= 0 else -1 - k
            if part >= 0:
                count = _append(tokens, count, np.uint32(part), seconds, pairs, joined)
                continue
            word = words[start - 1 - part]
            if plain[word] and count < SCRATCH_TOKENS:
                tokens[count] = word
                count += 1
            else:
                count = _expand(word, expansion_of, expansions, expansion_ends, seconds, pairs, joined, tokens, count)
        if count <= out.shape[1]:
            for i in range(count):
                out[name, i] = tokens[i]
            lengths[name] = count


@njit(types.void(_U8, _I64, _I64, _U8_OUT), cache=True, nogil=True)
def gather_texts(data, ends, places, out):
    """Write some texts one after the other: text i is data[ends[i] : ends[i + 1]], `places` says which."""
    end = 0
    for k in range(places.shape[0]):
        for i in range(ends[places[k]], ends[places[k] + 1]):
            out[end] = data[i]
            end += 1


@njit(
    types.int64(types.Array(types.uint32, 2, "C", readonly=True), _U8, _U32_OUT, types.int64, _U32_OUT, _U32_OUT),
    cache=True,
    nogil=True,
)
def number_tokens(tokens, lengths, own, known, flat, fresh):
    """Give tokens a field's own numbers, in the order in which they are first met.

    tokens: (names, most tokens) uint32, lengths: (names,) uint8, of them used. own: (tokens,) uint32, a token's number
    in the field, UNKNOWN until it is met. flat: own numbers, name after name. fresh: filled with the tokens first met.
    Returns how many those are.
    """
    made = 0
    end = 0
    for name in range(lengths.shape[0]):
        for i in range(lengths[name]):
            token = tokens[name, i]
            if own[token] == UNKNOWN:
                own[token] = np.uint32(known + made)
                fresh[made] = token
                made += 1
            flat[end] = own[token]
            end += 1
    return made


# --- Dates ----------------------------------------------------------------------------------------------------------

_ZERO: Final = 48
_DASH: Final = 45
_SLASH: Final = 47
_LEAP_DAY: Final = 2 << 5 | 29


@njit(nogil=True)
def _number(text, start, digits):
    """Return the number that some digits are, -1 if one of them is none."""
    number = 0
    for i in range(start, start + digits):
        digit = np.int64(text[i]) - _ZERO
        if digit < 0 or digit > 9:
            return -1
        number = 10 * number + digit
    return number


@njit(types.void(_U8, _I64, types.int64, types.int64, _I32, types.int32, _I32_OUT), cache=True, nogil=True)
def read_dates(text, ends, first_year, last_year, month_days, unread, out):
    """Read dates written YYYY-MM-DD, or DD-MM-YYYY with dashes, slashes or dots.

    text, ends: date i is text[ends[i] : ends[i + 1]]. month_days: (512,) what to take month << 5 | day for, `unread`
    for no day of a year. out: (dates,) year << 9 | month << 5 | day, `unread` for whatever is not such a date.
    """
    for i in range(out.shape[0]):
        out[i] = unread
        start = ends[i]
        if ends[i + 1] - start != 10:
            continue
        if text[start + 4] == _DASH and text[start + 7] == _DASH:
            year, month, day = _number(text, start, 4), _number(text, start + 5, 2), _number(text, start + 8, 2)
        elif text[start + 2] in (_DASH, _SLASH, _DOT) and text[start + 5] in (_DASH, _SLASH, _DOT):
            year, month, day = _number(text, start + 6, 4), _number(text, start + 3, 2), _number(text, start, 2)
        else:
            continue
        if year < first_year or year > last_year or month < 0 or month > 12 or day < 0 or day > 31:
            continue
        found = month << 5 | day
        if month_days[found] == unread or (
            found == _LEAP_DAY and not (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0))
        ):
            continue
        out[i] = year << 9 | month_days[found]


# --- Rewriting rules ------------------------------------------------------------------------------------------------

_A: Final = 97
_OUTSIDE: Final = 1 << 26


@njit(nogil=True)
def _letter_at(word, length, place):
    """Return the letter at a place as a bit, or the bit of what lies before and after a word."""
    if place < 0 or place >= length:
        return np.int64(_OUTSIDE)
    return np.int64(1) << np.int64(word[place])


@njit(nogil=True)
def _way_at(word, length, place, ways, first, last, checks):
    """Return the first way to match at a place, -1 for none."""
    for way in range(first, last):
        check, end = ways[way, 0], ways[way, 1]
        while check < end and _letter_at(word, length, place + checks[check, 0]) & checks[check, 1]:
            check += 1
        if check == end:
            return way
    return -1


@njit(nogil=True)
def _undouble(word, length, out):
    end = 0
    for i in range(length):
        if i == 0 or word[i] != word[i - 1]:
            out[end] = word[i]
            end += 1
    return end


@njit(nogil=True)
def _rewrite(word, length, step, ways, checks, out):
    """Replace every match of a step; return the length of what comes out."""
    end = 0
    place = 0
    while place < length:
        way = -1
        if (np.int64(1) << np.int64(word[place])) & step[2]:
            way = _way_at(word, length, place, ways, step[0], step[1], checks)
        if way < 0:
            out[end] = word[place]
            end += 1
            place += 1
            continue
        for k in range(3, 5):
            if ways[way, k] >= 0:
                out[end] = ways[way, k] - _A
                end += 1
        place += ways[way, 2]
    return end


@njit(nogil=True)
def _letters_of(word, length):
    letters = np.int64(0)
    for i in range(length):
        letters |= np.int64(1) << np.int64(word[i])
    return letters


_I64_2D = types.Array(types.int64, 2, "C", readonly=True)


@njit(types.void(_U8, _I64, _I64_2D, _I64_2D, _I64_2D, types.int64, _U8_OUT, _I64_OUT), cache=True, nogil=True)
def rewrite_words(text, ends, steps, ways, checks, longest, out, out_ends):
    """Rewrite words of a to z by the steps of `matching.rewriting.CompiledRules`.

    text, ends: words. longest: letters that any of them may have on the way. out, out_ends: words rewritten; one of
    which nothing would be left stays as it is.
    """
    word = np.empty(longest, np.uint8)
    spare = np.empty(longest, np.uint8)
    for i in range(out_ends.shape[0] - 1):
        length = ends[i + 1] - ends[i]
        for k in range(length):
            word[k] = text[ends[i] + k] - _A
        letters = _letters_of(word, length)
        for s in range(steps.shape[0]):
            if length < steps[s, 3] or length > steps[s, 4]:
                continue
            if steps[s, 0] == steps[s, 1]:
                length = _undouble(word, length, spare)
            elif letters & steps[s, 2]:
                length = _rewrite(word, length, steps[s], ways, checks, spare)
                letters = _letters_of(spare, length)
            else:
                continue
            word, spare = spare, word
        end = out_ends[i]
        if length == 0:
            for k in range(ends[i], ends[i + 1]):
                out[end] = text[k]
                end += 1
        for k in range(length):
            out[end] = word[k] + _A
            end += 1
        out_ends[i + 1] = end


# --- Keyed BLAKE2b (RFC 7693), many short messages at once ----------------------------------------------------------

_IV: Final = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    dtype=np.uint64,
)  # fmt: skip
_SIGMA: Final = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    dtype=np.int64,
)  # fmt: skip
_STEPS: Final = np.array(
    [
        [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
        [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
    ],
    dtype=np.int64,
)  # fmt: skip


@njit(nogil=True)
def _turn(value, bits):
    return (value >> np.uint64(bits)) | (value << np.uint64(64 - bits))


@njit(nogil=True)
def _compress(state, block, counts, last, work):
    """Mix a block into each lane's state: state (8, LANES), block (16, LANES), counts (LANES,) bytes so far."""
    for lane in range(LANES):
        for i in range(8):
            work[i, lane] = state[i, lane]
            work[i + 8, lane] = _IV[i]
        work[12, lane] ^= counts[lane]
        if last:
            work[14, lane] = ~work[14, lane]
    for r in range(12):
        for step in range(8):
            va, vb, vc, vd = work[_STEPS[step, 0]], work[_STEPS[step, 1]], work[_STEPS[step, 2]], work[_STEPS[step, 3]]
            x, y = block[_SIGMA[r, 2 * step]], block[_SIGMA[r, 2 * step + 1]]
            for lane in range(LANES):
                a, b, c, d = va[lane], vb[lane], vc[lane], vd[lane]
                a = a + b + x[lane]
                d = _turn(d ^ a, 32)
                c = c + d
                b = _turn(b ^ c, 24)
                a = a + b + y[lane]
                d = _turn(d ^ a, 16)
                c = c + d
                va[lane], vb[lane], vc[lane], vd[lane] = a, _turn(b ^ c, 63), c, d
    for i in range(8):
        for lane in range(LANES):
            state[i, lane] ^= work[i, lane] ^ work[i + 8, lane]


@njit(types.void(_U8, types.int64, _U64_OUT), cache=True, nogil=True)
def begin_digests(key, digest_bytes, state):
    """Write the state (8 words) of a keyed BLAKE2b after its key, of 32 bytes here."""
    lanes = np.zeros((8, LANES), np.uint64)
    block = np.zeros((16, LANES), np.uint64)
    for i in range(8):
        lanes[i, :] = _IV[i]
    lanes[0, :] ^= np.uint64(0x01010000) ^ (np.uint64(key.shape[0]) << np.uint64(8)) ^ np.uint64(digest_bytes)
    for i in range(key.shape[0]):
        block[i // 8, :] |= np.uint64(key[i]) << np.uint64(8 * (i % 8))
    _compress(lanes, block, np.full(LANES, HASH_BLOCK, np.uint64), False, np.empty((16, LANES), np.uint64))  # noqa: FBT003 - compiled, by position
    state[:] = lanes[:, 0]


@njit(nogil=True)
def _load(block, lane, prefix, text, start, stop):
    """Write a message, a prefix byte before it unless that is 0, into one lane of a block; return its bytes."""
    for i in range(16):
        block[i, lane] = np.uint64(0)
    place = 0
    if prefix:
        block[0, lane] = np.uint64(prefix)
        place = 1
    for i in range(start, min(stop, start + HASH_BLOCK - place)):
        block[place >> 3, lane] |= np.uint64(text[i]) << np.uint64(8 * (place & 7))
        place += 1
    return place


@njit(
    types.void(
        types.Array(types.uint64, 1, "C", readonly=True), types.int64, _U8, _I64, types.Array(types.uint64, 2, "C")
    ),
    cache=True,
    nogil=True,
)
def digests(begun, prefix, text, ends, out):
    """Hash messages of 1 to HASH_BLOCK bytes, prefix included; of others the digest is wrong.

    begun: of `begin_digests`. prefix: a byte before every message, 0 for none. text, ends: message i is
    text[ends[i] : ends[i + 1]]. out: (messages, words), the digest's first words.
    """
    state = np.empty((8, LANES), np.uint64)
    block = np.empty((16, LANES), np.uint64)
    work = np.empty((16, LANES), np.uint64)
    counts = np.empty(LANES, np.uint64)
    for first in range(0, out.shape[0], LANES):
        for lane in range(LANES):
            message = min(first + lane, out.shape[0] - 1)
            length = _load(block, lane, prefix, text, ends[message], ends[message + 1])
            counts[lane] = np.uint64(HASH_BLOCK + length)
            for i in range(8):
                state[i, lane] = begun[i]
        _compress(state, block, counts, True, work)  # noqa: FBT003 - compiled, by position
        for lane in range(min(LANES, out.shape[0] - first)):
            for i in range(out.shape[1]):
                out[first + lane, i] = state[i, lane]


# --- Tokens into filters and near forms -----------------------------------------------------------------------------


@njit(nogil=True)
def _set_bits(digest, positions, out):
    """Set the bits at a digest's first positions, 4 bytes each, in half a filter."""
    for k in range(positions):
        place = (digest[k >> 1] >> np.uint64(32 * (k & 1))) & np.uint64(255)
        out[np.int64(place >> np.uint64(6))] |= np.uint64(1) << (place & np.uint64(63))


@njit(
    types.void(types.Array(types.uint64, 2, "C", readonly=True), types.int64, types.Array(types.uint64, 2, "C")),
    cache=True,
    nogil=True,
)
def set_positions(hashed, positions, out):
    """Turn digests into halves of filters: hashed (n, words), out (n, HALF_WORDS), whose bits are added to."""
    for i in range(out.shape[0]):
        _set_bits(hashed[i], positions, out[i])


@njit(nogil=True)
def _add_grams(text, start, stop, grams, out):
    """Add the bits of a form's padded bigrams."""
    before = np.int64(95)
    for i in range(start, stop + 1):
        code = np.int64(text[i]) if i < stop else np.int64(95)
        for word in range(HALF_WORDS):
            out[word] |= grams[before, code, word]
        before = code


@njit(
    types.void(
        _U8, _I64, _U8, _I64, types.Array(types.uint64, 2, "C", readonly=True),
        types.Array(types.uint64, 3, "C", readonly=True), types.Array(types.uint64, 3, "C", readonly=True),
        types.Array(types.uint64, 2, "C"),
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def fill_filters(spellings, spelling_ends, sounds, sound_ends, whole, spelling_grams, sound_grams, out):
    """Write the filters of tokens; one without a sound is an initial.

    spellings, sounds: forms in ASCII, those of token i from ends[i] to ends[i + 1]. whole: (tokens, HALF_WORDS), the
    bits of whole sounds. spelling_grams, sound_grams: (GRAM_CODES, GRAM_CODES, HALF_WORDS), the bits of a bigram, with
    "_" for the padding. out: (tokens, 2 x HALF_WORDS), zeros.
    """
    for i in range(out.shape[0]):
        spelling = out[i, :HALF_WORDS]
        sound = out[i, HALF_WORDS:]
        if sound_ends[i] == sound_ends[i + 1]:
            for word in range(HALF_WORDS):
                spelling[word] = spelling_grams[95, spellings[spelling_ends[i]], word]
            continue
        for word in range(HALF_WORDS):
            sound[word] = whole[i, word]
        _add_grams(spellings, spelling_ends[i], spelling_ends[i + 1], spelling_grams, spelling)
        _add_grams(sounds, sound_ends[i], sound_ends[i + 1], sound_grams, sound)


@njit(types.int64(_U8, _I64, types.int64, types.int64, _U8_OUT, _I64_OUT, _I64_OUT), cache=True, nogil=True)
def leave_letters_out(text, ends, least, most, forms, form_ends, counts):
    """Write each token's near forms: itself, and without each of its first most - 1 letters; none of a short one.

    text, ends: tokens. least: letters of a token that has any. forms, form_ends: those of all tokens, equal ones once.
    counts: (tokens,) how many each has. Returns how many there are together.
    """
    made = 0
    end = 0
    for token in range(counts.shape[0]):
        start, stop = ends[token], ends[token + 1]
        counts[token] = 0
        if stop - start < least:
            continue
        before = made
        for left_out in range(start - 1, min(stop, start + most - 1)):
            if left_out > start and text[left_out] == text[left_out - 1]:
                continue  # of two equal letters it does not matter which
            for i in range(start, stop):
                if i != left_out:
                    forms[end] = text[i]
                    end += 1
            made += 1
            form_ends[made] = end
        counts[token] = made - before
    return made
