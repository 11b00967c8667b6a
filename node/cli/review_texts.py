"""What `pulang review` says to a caseworker: agreement levels in plain words, in Indonesian and English."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matching.schema import FieldKind
from matching.search import (
    CODE_SAME,
    DATE_1,
    DATE_1_OTHER_DAY,
    DATE_2,
    DATE_2_OTHER_DAY,
    DATE_3_4,
    DATE_3_4_OTHER_DAY,
    DATE_5_7,
    DATE_5_7_OTHER_DAY,
    DATE_8_10,
    DATE_8_10_OTHER_DAY,
    DATE_CONFUSED,
    DATE_CONFUSED_OTHER_DAY,
    DATE_CONFUSED_SAME_DAY,
    DATE_FAR,
    DATE_FAR_OTHER_DAY,
    DATE_FAR_SAME_DAY,
    DATE_NEAR_SAME_DAY,
    DATE_SAME,
    DATE_YEAR,
    DATE_YEAR_OTHER_DAY,
    DATE_YEAR_PART,
    DATE_YEAR_SWAPPED,
    PLACE_ALIKE,
    PLACE_CLOSE,
    PLACE_DIFFERENT,
    PLACE_PROVINCE_ONLY,
    PLACE_RELATED,
    PLACE_SAME,
    PLACE_SAME_PROVINCE,
    PLACE_SAME_REGENCY,
)
from matching.training import FOUND_EDGES, USED_EDGES

if TYPE_CHECKING:
    from matching.schema import FieldSpec

_ID: Final[dict[str, str]] = {
    "title": "Data {item}: kasus {case}, ditanyakan oleh {peer} pada {at} UTC",
    "column.field": "Isian",
    "column.own": "Data kita (baris {row})",
    "column.agreement": "Kecocokan dengan keterangan klien",
    "why": (
        "Kiri: catatan kita sendiri. Kanan: seberapa cocok dengan keterangan klien; keterangan itu sendiri tidak "
        "pernah sampai ke sini. Putuskan dari data dan, bila perlu, dari orang yang mengenal keluarganya."
    ),
    "empty": "(kosong)",
    "not_imported": "(tidak ada kolomnya)",
    "not_asked": "tidak disebut",
    "missing": "tidak bisa dibandingkan: kosong di catatan kita",
    "name.none": "tidak ada kata yang cocok",
    "name.level": "{found} nama yang disebut cocok; {used} nama di catatan kita terpakai",
    "same": "sama",
    "different": "berbeda",
    "gone": "CATATAN INI TIDAK ADA LAGI di sumber data. Tanpa catatan, jangan diputuskan sama atau berbeda.",
    "changed": "CATATAN INI SUDAH BERUBAH sejak diimpor: {fields}. Kecocokan di kanan dihitung dari yang lama.",
    "changed_row": "Catatan ini dicari menurut nomor baris: bisa jadi sekarang baris itu orang lain.",
    "unknown_change": "Tidak bisa dipastikan apakah catatan ini masih seperti saat diimpor (indeksnya sudah diganti).",
    "file_differs": "Berkas sumber sudah diubah setelah diimpor.",
    "several": "Ada lebih dari satu catatan dengan nomor ini; yang tampak hanya yang pertama.",
    "ask": "Orang yang sama? [s]ama, [b]eda, [t]idak yakin, Enter = lewati",
    "ask_gone": "[t]idak yakin, Enter = lewati",
    "key.same": "s",
    "key.different": "b",
    "key.unsure": "t",
    "not_understood": "Tidak dipahami.",
    "skipped": (
        "Data {item} belum diputuskan; tetap disimpan untuk {operator} sampai {until} UTC. Nanti: pulang review decide"
    ),
    "stands": "Data {item}: {state}",
    "none": "Tidak ada yang menunggu keputusan.",
    "state.waiting": "menunggu",
    "state.second": "menunggu pemeriksa kedua",
    "state.same": "orang yang sama",
    "state.different": "orang yang berbeda",
    "state.unsure": "tidak yakin",
    "state.broken": "hubungan diputus",
    "state.expired": "lewat waktu",
}

_EN: Final[dict[str, str]] = {
    "title": "Item {item}: case {case}, asked by {peer} at {at} UTC",
    "column.field": "Field",
    "column.own": "Our record (row {row})",
    "column.agreement": "Agreement with the client's description",
    "why": (
        "Left: our own record. Right: how far it agrees with the client's description; that itself never comes here. "
        "Decide by the record and, where needed, by people who know the family."
    ),
    "empty": "(empty)",
    "not_imported": "(no such column)",
    "not_asked": "not said",
    "missing": "cannot be compared: empty in our record",
    "name.none": "no word agrees",
    "name.level": "{found} of the name as said agrees; {used} of the name in our record is used",
    "same": "the same",
    "different": "different",
    "gone": "THIS RECORD IS GONE from the source. Without it, decide neither same nor different.",
    "changed": "THIS RECORD HAS CHANGED since the import: {fields}. The agreement on the right is with what it was.",
    "changed_row": "It is found by its row number: that row may be somebody else by now.",
    "unknown_change": "Whether this record is still what was imported cannot be told (its index has been replaced).",
    "file_differs": "The source file was changed after the import.",
    "several": "More than one record has this id; shown is the first.",
    "ask": "The same person? [s]ame, [d]ifferent, [u]nsure, Enter = skip",
    "ask_gone": "[u]nsure, Enter = skip",
    "key.same": "s",
    "key.different": "d",
    "key.unsure": "u",
    "not_understood": "Not understood.",
    "skipped": "Item {item} is not decided; it is kept for {operator} until {until} UTC. Later: pulang review decide",
    "stands": "Item {item}: {state}",
    "none": "Nothing waits for a decision.",
    "state.waiting": "waiting",
    "state.second": "waiting for a second reviewer",
    "state.same": "the same person",
    "state.different": "different persons",
    "state.unsure": "unsure",
    "state.broken": "link broken",
    "state.expired": "expired",
}

TEXTS: Final = {"id": _ID, "en": _EN}

# One for each gap between matching.training's edges: the share of a name, weighed by how rare its words are.
_FOUND: Final = {
    "id": (
        "kurang dari seperempat", "sekitar sepertiga", "sekitar separuh", "sekitar tiga perlima",
        "lebih dari dua pertiga", "sekitar empat perlima", "sekitar sembilan persepuluh", "hampir seluruh", "seluruh",
    ),
    "en": (
        "less than a quarter", "about a third", "about half", "about three fifths", "more than two thirds",
        "about four fifths", "about nine tenths", "nearly all", "all",
    ),
}  # fmt: skip
_USED: Final = {
    "id": ("kurang dari sepertiga", "sekitar dua perlima", "lebih dari separuh", "sebagian besar", "seluruh"),
    "en": ("less than a third", "about two fifths", "more than half", "most", "all"),
}
assert all(len(words) == len(FOUND_EDGES) for words in _FOUND.values())
assert all(len(words) == len(USED_EDGES) + 1 for words in _USED.values())

_PLACES: Final = {
    "id": {
        PLACE_DIFFERENT: "tempat berbeda",
        PLACE_SAME_PROVINCE: "provinsi sama, kabupaten/kota berbeda",
        PLACE_PROVINCE_ONLY: "provinsi sama; salah satu hanya menyebut provinsi",
        PLACE_ALIKE: "tulisannya mirip",
        PLACE_CLOSE: "tulisannya hampir sama",
        PLACE_RELATED: "kabupaten induk, pemekaran, atau kota dan kabupatennya",
        PLACE_SAME_REGENCY: "kabupaten/kota sama, ditulis lain",
        PLACE_SAME: "sama",
    },
    "en": {
        PLACE_DIFFERENT: "another place",
        PLACE_SAME_PROVINCE: "same province, another regency",
        PLACE_PROVINCE_ONLY: "same province; one side names no more",
        PLACE_ALIKE: "written alike",
        PLACE_CLOSE: "written almost the same",
        PLACE_RELATED: "parent or split-off regency, or city and regency",
        PLACE_SAME_REGENCY: "same regency, written otherwise",
        PLACE_SAME: "the same",
    },
}
_DATES: Final = {
    "id": {
        DATE_FAR: "tahun jauh berbeda; tanggal dan bulan tidak diketahui di salah satu sisi",
        DATE_FAR_OTHER_DAY: "tahun jauh berbeda, tanggal dan bulan berbeda",
        DATE_FAR_SAME_DAY: "tahun jauh berbeda, tanggal dan bulan sama",
        DATE_CONFUSED: "tahun seperti tertukar angkanya; tanggal dan bulan tidak diketahui di salah satu sisi",
        DATE_CONFUSED_OTHER_DAY: "tahun seperti tertukar angkanya, tanggal dan bulan berbeda",
        DATE_CONFUSED_SAME_DAY: "tahun seperti tertukar angkanya, tanggal dan bulan sama",
        DATE_8_10: "selisih 8 sampai 10 tahun; tanggal dan bulan tidak diketahui di salah satu sisi",
        DATE_8_10_OTHER_DAY: "selisih 8 sampai 10 tahun, tanggal dan bulan berbeda",
        DATE_5_7: "selisih 5 sampai 7 tahun; tanggal dan bulan tidak diketahui di salah satu sisi",
        DATE_5_7_OTHER_DAY: "selisih 5 sampai 7 tahun, tanggal dan bulan berbeda",
        DATE_3_4: "selisih 3 atau 4 tahun; tanggal dan bulan tidak diketahui di salah satu sisi",
        DATE_3_4_OTHER_DAY: "selisih 3 atau 4 tahun, tanggal dan bulan berbeda",
        DATE_2: "selisih 2 tahun; tanggal dan bulan tidak diketahui di salah satu sisi",
        DATE_2_OTHER_DAY: "selisih 2 tahun, tanggal dan bulan berbeda",
        DATE_1: "selisih 1 tahun; tanggal dan bulan tidak diketahui di salah satu sisi",
        DATE_1_OTHER_DAY: "selisih 1 tahun, tanggal dan bulan berbeda",
        DATE_NEAR_SAME_DAY: "tahun berdekatan, tanggal dan bulan sama",
        DATE_YEAR_OTHER_DAY: "tahun sama, tanggal dan bulan berbeda",
        DATE_YEAR: "tahun sama; tanggal dan bulan tidak diketahui di salah satu sisi",
        DATE_YEAR_PART: "tahun sama, dan tanggal atau bulan sama",
        DATE_YEAR_SWAPPED: "tahun sama, tanggal dan bulan tertukar",
        DATE_SAME: "sama",
    },
    "en": {
        DATE_FAR: "years far apart; day and month not known on one side",
        DATE_FAR_OTHER_DAY: "years far apart, another day and month",
        DATE_FAR_SAME_DAY: "years far apart, same day and month",
        DATE_CONFUSED: "year as if digits were confused; day and month not known on one side",
        DATE_CONFUSED_OTHER_DAY: "year as if digits were confused, another day and month",
        DATE_CONFUSED_SAME_DAY: "year as if digits were confused, same day and month",
        DATE_8_10: "8 to 10 years apart; day and month not known on one side",
        DATE_8_10_OTHER_DAY: "8 to 10 years apart, another day and month",
        DATE_5_7: "5 to 7 years apart; day and month not known on one side",
        DATE_5_7_OTHER_DAY: "5 to 7 years apart, another day and month",
        DATE_3_4: "3 or 4 years apart; day and month not known on one side",
        DATE_3_4_OTHER_DAY: "3 or 4 years apart, another day and month",
        DATE_2: "2 years apart; day and month not known on one side",
        DATE_2_OTHER_DAY: "2 years apart, another day and month",
        DATE_1: "1 year apart; day and month not known on one side",
        DATE_1_OTHER_DAY: "1 year apart, another day and month",
        DATE_NEAR_SAME_DAY: "years near, same day and month",
        DATE_YEAR_OTHER_DAY: "same year, another day and month",
        DATE_YEAR: "same year; day and month not known on one side",
        DATE_YEAR_PART: "same year, and day or month the same",
        DATE_YEAR_SWAPPED: "same year, day and month swapped",
        DATE_SAME: "the same",
    },
}


def agreement_words(language: str, spec: FieldSpec, level: int, *, asked: bool) -> str:
    """Return an agreement level in plain words: never a weight."""
    texts = TEXTS[language]
    if level == 0:
        return texts["missing" if asked else "not_asked"]
    match spec.kind:
        case FieldKind.NAME:
            found, used = divmod(level - 2, len(USED_EDGES) + 1)
            some = texts["name.level"].format(found=_FOUND[language][found], used=_USED[language][used])
            return texts["name.none"] if level == 1 else some
        case FieldKind.PLACE:
            return _PLACES[language][level]
        case FieldKind.DATE:
            return _DATES[language][level]
        case _:
            return texts["same" if level == CODE_SAME else "different"]
