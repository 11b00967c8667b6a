"""Reduces one name token to the forms under which its spellings meet.

Rules 6 to 10 of docs/matching.md. Every rule has a name, so that a benchmark can leave it out and show what it earns.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from matching.rewriting import CompiledRules, Rewrite, Step, compile_rules, replace, replace_letters, undouble
from matching.tables import sound_counts, token_counts
from matching.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Rule = Callable[[str], str]

CONSONANT = "[bcdfghjklmnprstvz]"  # but for the glides, y and w
MAX_ALTERNATES = 8  # every alternate sets bits in a filter: more would fill it with noise
MIN_VOWEL_SHIFT = 5  # letters; in shorter sounds the vowels are the name: Lina and Lena, Doni and Dani
MUCH_COMMONER = 5  # a reading must be this many times as common before the corpus overrules the letters
MIN_READINGS = 10  # and seen this often; below it a ratio is chance

_KEPT_J = "J"  # a j that came from dj: modern j, never an old y


class TokenForms(NamedTuple):
    """One token, spelling by spelling less particular.

    spelling: modern orthography, single letters for doubled ones.
    sound: what is heard; the form most comparisons use.
    alternates: other sounds the same letters may stand for, most likely first, without `sound`.
    skeleton: consonants and the last vowels, for wide blocking only.
    """

    spelling: str
    sound: str
    alternates: tuple[str, ...]
    skeleton: str


# --- Rule 6: the spelling reforms of 1947 and 1972 ------------------------------------------------------------------

_OLD_SIGNS = re.compile("oe|tj|dj|sj")
# Here o and e are two syllables, in names from the Bible or from Chinese.
_TWO_SYLLABLES = frozenset({"noel", "yoel", "joel", "noelia", "noella", "zoe", "chloe", "oei", "oey", "goey"})
_J_AFTER_CONSONANT = re.compile(r"(?<=[bghklmpw])j(?=[aeiou])")
_OLD_IJ = re.compile(r"(?<![aw]d)(?<![aw]t)(?<![aw]w)(?<=[^w]i)j(?=[aeiou])")


def _modernise(token: str) -> str:
    """Return the token in the orthography of 1972. Which j is an old y, the old signs around it and the corpus say."""
    if "j" not in token and "oe" not in token:
        return token
    old = token not in _TWO_SYLLABLES and _OLD_SIGNS.search(token) is not None
    text = token
    if old:
        text = text.replace("oe", "u").replace("tj", "c").replace("dj", _KEPT_J).replace("sj", "sy")
    if text.startswith("nj"):
        text = "ny" + text[2:]
    if "j" in text:
        text = _read_j(text, old=old)
    return text.replace(_KEPT_J, "j")


def _read_j(text: str, *, old: bool) -> str:
    if old:
        return text.replace("j", "y")
    text = _J_AFTER_CONSONANT.sub("y", text)
    if "j" not in text:
        return text
    as_y = text.replace("j", "y")
    counts = token_counts()
    n_j, n_y = counts.get(text, 0), counts.get(as_y, 0)
    if n_y >= MIN_READINGS and n_y >= MUCH_COMMONER * n_j:
        return as_y
    if n_j >= MIN_READINGS:
        return text
    return _OLD_IJ.sub("y", text)


# --- Rule 7: other spelling habits ----------------------------------------------------------------------------------

_undouble = undouble()

SPELLING_RULES: tuple[tuple[str, Rule], ...] = (
    ("reforms", _modernise),
    ("foreign_letters", replace_letters(("ck", "k"), ("ph", "f"), ("x", "ks"), ("q", "k"))),
    ("christian_chr", replace("^chr", "kr", "chr")),
    ("ch_is_kh", replace_letters(("ch", "kh"))),
    ("c_before_consonant", replace(r"c(?=[bdfgklmnprstvwz]|$)", "k", "c")),
    ("long_vowels", replace("oo(?=.)", "u", "oo")),
    ("long_e", replace_letters(("ee", "i"))),
    ("dutch_ie", replace(r"ie(?=$|[bcdfghjknprstvz])|(?<=^[a-z])ie(?=m$)", "i", "ie")),
    ("y_as_vowel", replace(r"(?<=[^aeious])y(?=[^aeiou]|$)|(?<=^s)y(?=[^aeiou])|(?<=s)y$", "i", "y")),
    ("doubled_letters", _undouble),
)

# --- Rule 8: what is heard ------------------------------------------------------------------------------------------

SOUND_RULES: tuple[tuple[str, Rule], ...] = (
    ("kh_is_h", replace_letters(("tkh", "th"), ("kh", "h"))),
    ("sibilants", replace(r"s[yh]|ts", "s", "sy", "sh", "ts")),
    ("z_is_s", replace(r"d?zh?", "s", "z")),
    ("aspirates", replace(r"(?<=[bdgjtvw])h", "", "h")),
    ("initial_rh", replace(r"^rh", "r", "rh")),
    ("labials", replace_letters(("f", "p"), ("v", "p"))),
    ("schwa", replace(r"(?<=[a-z]{2}[dt])er(?=[aio]$)", "r", "er")),
    ("glide_before_i", replace(r"(?<=[aou])y(?=i)", "", "yi")),
    ("glide_y", replace(rf"iy(?=[aeiou])|(?<={CONSONANT})y(?=[aeiou])", "i", "y")),
    ("glide_w", replace(rf"uw(?=[aeio])|(?<={CONSONANT})w(?=[aeio])", "u", "w")),
    ("diphthong_e", replace(r"a[ie]|ei|oi|[ae]y(?![aeiou])", "e", "ai", "ae", "ei", "oi", "ay", "ey")),
    ("diphthong_o", replace(r"a[uo]|ou|[ao]w(?![aeiou])", "o", "au", "ao", "ou", "aw", "ow")),
    ("final_h", replace("(?<=..)h$", "", "h")),
    ("final_stop", Rewrite(Step("d$", "t", ("d",)), Step("b$", "p", ("b",)), Step("(?<!n)g$", "k", ("g",)))),
    ("doubled_sounds", _undouble),
)


def _apply(rules: tuple[tuple[str, Rule], ...], text: str, without: frozenset[str]) -> str:
    for name, rule in rules:
        if not without or name not in without:
            text = rule(text)
    return text


def _spelling_and_sound(token: str, without: frozenset[str]) -> tuple[str, str]:
    spelling = _apply(SPELLING_RULES, token, without) or token
    return spelling, _apply(SOUND_RULES, spelling, without) or spelling


@lru_cache(maxsize=1 << 16)
def spelling_and_sound(token: str) -> tuple[str, str]:
    """Return the first two forms of a token; remembered, for a new token is parsed, weighed and encoded."""
    return _spelling_and_sound(token, frozenset())


def token_forms(token: str, *, without: frozenset[str] = frozenset()) -> TokenForms:
    """Return the forms of a token of `parse_name`.

    without: names of rules to leave out; "alternates" leaves out all of rule 9, "vowel_shifts" its second half.
    """
    remembered = without <= _RULE_9  # which has no part in the first two forms
    spelling, sound = spelling_and_sound(token) if remembered else _spelling_and_sound(token, without)
    alternates = () if "alternates" in without else _alternates(token, spelling, sound, without)
    return TokenForms(spelling, sound, alternates, skeleton(sound))


def _alternates(token: str, spelling: str, sound: str, without: frozenset[str]) -> tuple[str, ...]:
    alternates = dict.fromkeys(_apply(SOUND_RULES, other, without) for other in _readings(token, spelling, without))
    if "vowel_shifts" not in without:
        for heard in (sound, *alternates):
            alternates.update(dict.fromkeys(_vowel_shifts(heard)))
    alternates.pop(sound, None)
    alternates.pop("", None)
    return tuple(alternates)[:MAX_ALTERNATES]


# --- Rule 9: other readings of the same letters ---------------------------------------------------------------------

_SOFT_C = re.compile("c(?=[ei])")

# (name, letters that must be there, how else they may be read)
READINGS: tuple[tuple[str, str, Rule], ...] = (
    ("z_as_j", "z", replace("d?zh?", "j", "z")),
    ("kh_as_k", "kh", lambda text: text.replace("kh", "k")),
    ("j_as_y", "j", replace("(?<!n)j", "y", "j")),
    ("c_as_k", "c", lambda text: _SOFT_C.sub("s", text).replace("c", "k")),
    ("dl_as_d", "dl", lambda text: text.replace("dl", "d")),
    ("glottal_k", "k", replace("(?<=^[jmnrs][ai])k(?=[rmdfy])|(?<=^mu)k(?=m)", "", "k")),
    ("ain_as_ng", "ng", replace("^ng(?=[aeiou])", "", "ng")),
)

_RULE_9 = frozenset({"alternates", "vowel_shifts", *(name for name, _, _ in READINGS)})


def _readings(token: str, spelling: str, without: frozenset[str]) -> list[str]:
    """Return other modern spellings the token may stand for, each reading also on top of those before it."""
    found = [spelling]
    if token.startswith("ch"):
        found.append("c" + spelling[2:])
    if "tj" in token:
        found.append(spelling.replace("c", "ty"))
    for name, letters, read in READINGS:
        if letters in spelling and name not in without:
            found.extend([read(text) for text in found[:MAX_ALTERNATES]])
    return found[1:]


def _vowel_shifts(sound: str) -> list[str]:
    """Return the sound with Javanese o as a, with e as i and with Arabic o as u; the last letter's class stays."""
    if "o" not in sound and "e" not in sound:
        return []
    known = sound_counts().get(sound)
    if known is not None and known.apart:
        return []
    if len(sound) < MIN_VOWEL_SHIFT:
        return [_short_o_to_a(sound), sound[:-1] + "a"] if sound[-1] == "o" else []
    arabic_u = [] if sound[-1] == "o" else [sound.replace("o", "u")]
    return [sound.replace("o", "a"), sound[:-1].replace("e", "i") + sound[-1], *arabic_u]


WIDE_RULES: tuple[Rewrite, ...] = (
    replace_letters(("j", "y")),
    # Zainal, Zakaria, Zahra, Zulkifli: also said with j
    replace("^s(?=en[au]|ak[ai]|ah[ri]|ul[kph])", "y", "s"),
    replace("^o", "u", "o"),
    replace(rf"iy(?=[aeiou])|(?<={CONSONANT})y(?=[aeiou])", "i", "y"),
    # Joko as Jaka and Eko as Eka, but not Toni: in a short sound only a final o was once an a
    Rewrite(Step("o(?=[a-z]?[a-z]?[a-z]?o$)|o$", "a", ("o",)), most=MIN_VOWEL_SHIFT - 1),
    Rewrite(Step("e(?=.)", "i", ("e",)), Step("o", "a", ()), least=MIN_VOWEL_SHIFT),
)


@lru_cache(maxsize=1 << 16)
def wide_sound(sound: str) -> str:
    """Return the one form in which a sound and its usual alternates meet, the same for either side.

    A name of men and a name of women never meet in it: the last letter keeps e apart from i and u from o, and where
    the vowels alone tell them apart (Deni, Dini; Mario, Maria) the reference names say so and the vowels stay.
    """
    known = sound_counts().get(sound)
    return sound.replace("j", "y") if known is not None and known.apart else widen(sound)


def widen(sound: str) -> str:
    """Return the wide form of a sound as the letters alone give it."""
    for rule in WIDE_RULES:
        sound = rule(sound)
    return sound


def _short_o_to_a(sound: str) -> str:
    """Return Joko as Jaka and Eko as Eka, but leave Toni: in a short sound only a final o was once an a."""
    return sound.replace("o", "a") if sound.endswith("o") else sound


# --- Many tokens at once --------------------------------------------------------------------------------------------


class StoredForms(NamedTuple):
    """Forms of many tokens, one after the other, and their sounds once more as strings."""

    spellings: Texts
    sounds: Texts
    wides: Texts
    heard: list[str]


@cache
def _compiled() -> tuple[CompiledRules, CompiledRules, CompiledRules]:
    spelling = [rule for _, rule in SPELLING_RULES if isinstance(rule, Rewrite)]
    sound = [rule for _, rule in SOUND_RULES if isinstance(rule, Rewrite)]
    return compile_rules(spelling), compile_rules(sound), compile_rules(WIDE_RULES)


def stored_forms(tokens: Sequence[str]) -> StoredForms:
    """Return spelling, sound and wide sound of many tokens: what the functions for one token say, compiled."""
    to_spelling, to_sound, to_wide = _compiled()
    # The first rule, `reforms`, changes no word without one of these.
    modern = [_modernise(token) if "j" in token or "oe" in token else token for token in tokens]
    spellings = to_spelling(Texts.of(modern))
    sounds = to_sound(spellings)
    wides, heard = to_wide(sounds), sounds.strings()
    apart = _apart_sounds()
    exceptions = [place for place, sound in enumerate(heard) if sound in apart]
    if exceptions:
        wide = wides.strings()
        for place in exceptions:
            wide[place] = wide_sound(heard[place])
        wides = Texts.of(wide)
    return StoredForms(spellings, sounds, wides, heard)


@cache
def _apart_sounds() -> frozenset[str]:
    return frozenset(sound for sound, counts in sound_counts().items() if counts.apart)


# --- Rule 10: the skeleton ------------------------------------------------------------------------------------------


_INNER_VOWELS = re.compile("(?<=.)[aeiou]")
_LAST_VOWELS = re.compile("[aeiou]+(?=[^aeiou]*$)")


def skeleton(sound: str) -> str:
    """Return the consonants of the wide form with its last vowels where they stand."""
    wide = wide_sound(sound)
    match = _LAST_VOWELS.search(wide)
    if match is None:
        return wide
    head, vowels, tail = wide[: match.start()], match.group(), wide[match.end() :]
    return _INNER_VOWELS.sub("", head) + vowels + tail
