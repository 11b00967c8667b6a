"""What `pulang find` says, in Indonesian and English: the same keys in both, ASCII only, short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from matching.fields import FIRST_YEAR, LAST_YEAR, MAX_MARGIN_YEARS, OLDEST_AGE
from node.client_file import KEYS, MAX_FILE_BYTES, MAX_VALUE_CHARS

LANGUAGES: Final = ("id", "en")
_KEYS: Final = ", ".join(KEYS)

_ID: Final[dict[str, str]] = {
    # fields
    "field.client": "keterangan klien",
    "field.name": "nama",
    "field.sex": "jenis kelamin",
    "field.birth_date": "lahir",
    "field.birthplace": "tempat lahir",
    "field.mother_name": "nama ibu kandung",
    "field.father_name": "nama ayah",
    "field.title": "gelar",
    # asking field by field
    "prompt.intro": "Isi yang diketahui saja. Kosongkan (tekan Enter) bila tidak diketahui.",
    "prompt.name": "Nama, seperti yang disebut (boleh ejaan lama, alias, singkatan)",
    "prompt.sex": "Jenis kelamin (L atau P)",
    "prompt.birth_date": "Lahir (17-8-1958, 1958, 1955-1960, 1958~3, umur 63 th)",
    "prompt.birthplace": "Tempat lahir (kabupaten atau kota, boleh kecamatan)",
    "prompt.mother_name": "Nama ibu kandung",
    "prompt.father_name": "Nama ayah",
    "prompt.name_needed": "Nama harus diisi.",
    "prompt.understood": "Yang dipahami:",
    "prompt.send": "Kirim pertanyaan ke semua provinsi?",
    "prompt.yes": "y",
    "prompt.no": "t",
    "prompt.cancelled": "Dibatalkan. Tidak ada yang dikirim.",
    "known.not": "tidak diketahui",
    "known.L": "laki-laki",
    "known.P": "perempuan",
    "known.year": "tahun {first}",
    "known.years": "tahun {first} sampai {last}",
    "known.month": "bulan {month}",
    "known.day": "tanggal {day}",
    "known.alias": "alias {words}",
    "known.father": "ayah {words}",
    "known.mother": "ibu {words}",
    "known.more_places": "{places} dan {count} lainnya",
    "known.no_place": "tidak dikenal sebagai kabupaten atau kota",
    # values that cannot be used
    "reason.nothing is left of it after normalising": "tidak ada yang tersisa setelah gelar dan tanda baca dibuang",
    "reason.empty": "kosong",
    "reason.not a date": "bukan tanggal, tahun, atau umur yang dikenal",
    "reason.no year in it": "tidak ada tahunnya",
    "reason.a two-digit year that may be of two centuries": "tahun dua angka bisa berarti dua abad: tulis empat angka",
    f"reason.a year outside {FIRST_YEAR} to {LAST_YEAR}": f"tahun di luar {FIRST_YEAR} sampai {LAST_YEAR}",
    "reason.no such month": "bulan itu tidak ada",
    "reason.no such day in that month": "tanggal itu tidak ada di bulan tersebut",
    f"reason.more than {MAX_MARGIN_YEARS} years either way": f"selisih lebih dari {MAX_MARGIN_YEARS} tahun",
    "reason.an age or a year? Write `63 th` for an age, `1963` for a year": (
        "umur atau tahun? Tulis '63 th' untuk umur, '1963' untuk tahun"
    ),
    f"reason.an age above {OLDEST_AGE}": f"umur di atas {OLDEST_AGE} tahun",
    "reason.in the future": "di masa depan",
    f"reason.before {FIRST_YEAR}": f"sebelum {FIRST_YEAR}",
    "reason.neither L (laki-laki) nor P (perempuan)": "bukan L (laki-laki) atau P (perempuan)",
    "reason.cannot be read": "tidak bisa dibaca",
    f"reason.over {MAX_FILE_BYTES} bytes": f"lebih dari {MAX_FILE_BYTES} bita: bukan keterangan seorang klien",
    "reason.not UTF-8": "bukan UTF-8: simpan sebagai UTF-8",
    "reason.not one object with named fields": f"bukan satu klien dengan isian bernama ({_KEYS})",
    "reason.a field that no client has": f"ada isian yang tidak dikenal; yang dikenal: {_KEYS}",
    "reason.a field that stands twice": "ada isian yang ditulis dua kali",
    "reason.not text": 'bukan teks: tulis di antara tanda kutip "..."',
    f"reason.longer than {MAX_VALUE_CHARS} characters": f"lebih dari {MAX_VALUE_CHARS} huruf",
    "reason.a control character in it": "ada karakter kendali: tulis dalam satu baris",
    "reason.not JSON": "bukan JSON",
    "reason.neither TOML nor JSON": "bukan TOML atau JSON",
    "reason.nested too deep": "susunannya terlalu dalam: bukan keterangan seorang klien",
    # values that help less than they seem to
    "warning": "perhatian",
    "warning.unknown_place": "tidak dikenal sebagai kabupaten atau kota; hanya ejaannya yang dibandingkan",
    "warning.only_initials": "hanya huruf tunggal; hasilnya akan lemah",
    "warning.cut": "terlalu panjang; hanya kata-kata yang paling khas dipakai",
    "warning.unusable": "tidak bisa dipakai; ditanyakan tanpa isian ini",
    # provinces while they answer
    "head.asking": "Kasus {case}: menanyakan {count} provinsi",
    "head.asked": "Kasus {case}: {answered} dari {count} provinsi menjawab dalam {ms} ms",
    "column.province": "Provinsi",
    "column.state": "Keadaan",
    "column.ms": "ms",
    "own": "{name} (kita)",
    "state.asked": "ditanya ...",
    "state.answered": "menjawab",
    "state.need_more": "minta tambahan: {fields}",
    "state.busy": "sibuk",
    "state.busy_for": "sibuk, coba lagi dalam {seconds:.0f} detik",
    "state.refused": "menolak",
    "state.unavailable": "belum bisa menjawab",
    "state.unreachable": "tidak tersambung",
    "state.timed_out": "tidak menjawab tepat waktu",
    "state.broke_contract": "jawabannya tidak sah",
    "state.not_asked": "tidak ditanya",
    "state.failed": "gagal di simpul kita",
    # the answer
    "outcome.home_found": "PROVINSI ASAL DITEMUKAN: {province}",
    "outcome.ambiguous": "BELUM PASTI",
    "outcome.not_registered": "TIDAK TERDAFTAR",
    "outcome.incomplete": "BELUM LENGKAP",
    "say.home_found": "Kemungkinan {percent}. Hubungi Dinas Sosial {province} dan sebutkan kode kandidat di bawah.",
    "say.home_own": "Kemungkinan {percent}. Klien ini terdaftar di provinsi kita sendiri; lihat kode di bawah.",
    "say.ambiguous": "Yang mungkin: {provinces}.",
    "say.ambiguous_none": "Tidak ada provinsi yang menonjol.",
    "say.not_registered": (
        "Semua provinsi sudah menjawab dan tidak ada yang mengenali klien ini (kemungkinan {percent})."
    ),
    "say.incomplete": "Belum menjawab: {provinces}. Ini tidak berarti klien tidak terdaftar di sana.",
    "say.so_far": "Sementara ini: {province} (kemungkinan {percent}).",
    "say.again": "Tanyakan lagi nanti.",
    "say.asked_again": "Simpul menanyakannya lagi sendiri sampai {until}; lihat: pulang case show {case}",
    "ask.name": "Tanyakan nama lengkap, semua katanya.",
    "ask.birth_date": "Tanyakan tanggal lahir selengkap mungkin, atau umur.",
    "ask.birthplace": "Tanyakan kabupaten atau kota tempat lahir.",
    "ask.mother_name": "Tanyakan nama ibu kandung.",
    "ask.father_name": "Tanyakan nama ayah.",
    "ask.title": "Tanyakan gelar, seperti Haji atau Raden; tulis di depan nama.",
    "ask.sex": "Isikan jenis kelamin.",
    "head.ranking": "Kemungkinan provinsi asal",
    "ranking.none": "tidak di provinsi mana pun",
    "ranking.unanswered": "{name} (belum menjawab)",
    "ranking.rest": "{count} provinsi lain",
    "head.finds": "Kandidat terdekat (kode hanya bermakna bagi provinsi yang menjawab)",
    "find.one": "1 orang",
    "find.some": "{count} orang",
    "find.many": "sekitar {count} orang",
    "find.code": "kode {code}",
    "head.why": "Mengapa {province}? Bobot dalam bit: + mendukung, - menentang",
    "head.nearest": "Yang paling mirip, di {province}. Bobot dalam bit: + mendukung, - menentang",
    "why.sum": "jumlah",
    # the command's own help
    # cases
    "case.help.group": "Kasus yang pernah ditanyakan: lihat, tutup, buka kembali.",
    "case.none": "Tidak ada kasus.",
    "case.column.case": "Kasus",
    "case.column.asked": "Ditanyakan",
    "case.column.outcome": "Hasil",
    "case.column.answered": "Menjawab",
    "case.column.next": "Ditanya lagi",
    "case.new": "BARU",
    "case.open": "Kasus {case}, ditanyakan {asked}; {answered} dari {count} provinsi sudah menjawab",
    "case.closed": "Kasus {case}, ditutup {closed}: {reason}",
    "case.erased": "Keterangan klien dan jawabannya sudah dihapus; hasil terakhir: {outcome}",
    "case.not_yet": "belum ada hasil",
    "case.provinces": "Provinsi",
    "case.column.attempts": "kali",
    "case.column.next_try": "ditanya lagi",
    "case.history": "Riwayat",
    "case.until": "Yang belum menjawab ditanya lagi sampai {until}.",
    "case.over": (
        "Batas waktu {until} sudah lewat; yang belum menjawab tidak ditanya lagi. Ulangi: pulang case reopen {case}"
    ),
    "case.reopened": "Kasus {case} dibuka; yang belum menjawab ditanya lagi sampai {until}.",
    "case.event.concluded": "hasil pertama: {outcome}",
    "case.event.amended": "{detail} menjawab; hasil: {outcome}",
    "case.event.gave_up": "batas waktu lewat, belum semua menjawab; hasil: {outcome}",
    "case.event.renewed": "data {detail} berubah; ditanya lagi",
    "case.event.closed": "ditutup: {detail}",
    "case.event.reopened": "dibuka kembali",
    "case.outcome.home_found": "ditemukan: {province}",
    "case.outcome.ambiguous": "belum pasti",
    "case.outcome.not_registered": "tidak terdaftar",
    "case.outcome.incomplete": "belum lengkap",
    "case.reason.found": "asal ditemukan",
    "case.reason.returned": "sudah dipulangkan",
    "case.reason.deceased": "meninggal",
    "case.reason.left": "pergi",
    "case.reason.other": "lain-lain",
    "case.reason.superseded": "ditanyakan ulang",
    "case.reason.expired": "terlalu lama terbuka",
    "case.reason.unreadable": "kuncinya hilang",
    "help": (
        "Cari provinsi asal seorang klien: tanyakan ke semua provinsi sekaligus.\n\n"
        "Tanpa argumen, isian ditanyakan satu per satu. Nama yang ditulis di baris perintah terlihat di daftar proses "
        "dan riwayat shell komputer ini: lebih aman tanpa argumen, atau dengan --from."
    ),
    "help.exit": (
        "Kode keluar: 0 provinsi asal ditemukan, 10 belum pasti, 11 tidak terdaftar, 12 belum lengkap (ada provinsi "
        "yang tidak menjawab), 65 isian salah, 69 simpul tidak berjalan, 74 tidak bisa dicatat, 75 simpul sibuk, "
        "77 tidak diizinkan."
    ),
    "help.name": "Nama seperti yang disebut. Terlihat di daftar proses.",
    "help.sex": "L (laki-laki) atau P (perempuan).",
    "help.born": "17-8-1958, 1958, 1955-1960, 1958~3, 'umur 63 th'.",
    "help.birthplace": "Kabupaten atau kota; kecamatan juga boleh.",
    "help.mother": "Nama ibu kandung. Terlihat di daftar proses.",
    "help.father": "Nama ayah. Terlihat di daftar proses.",
    "help.source": "Baca klien dari berkas TOML atau JSON (kunci: {keys}); - berarti masukan standar.",
    "help.home": "Folder simpul provinsi ini.",
    "help.lang": "Bahasa: id atau en.",
    "help.as_document": "Cetak satu dokumen JSON saja, untuk program.",
    "help.timeout": "Detik menunggu semua provinsi, paling lama {most:.0f}.",
    "help.case": "Nomor kasus sendiri, dikirim ke provinsi lain: jangan berisi nama. Bila kosong, dibuatkan.",
    "help.purpose": "Tujuan pertanyaan.",
    "usage.nothing": "tidak ada klien: beri --name atau --from; tanpa argumen, jalankan di terminal",
    "usage.both": "pilih salah satu: --from, atau isian di baris perintah",
    "usage.name": "--name harus diisi",
    "usage.words": 'ada kata di luar pilihan: tulis nama di antara tanda kutip, --name "..."',
    "usage.value": "{option}: isinya tidak dikenal; yang dikenal: {form}",
    "usage.timeout": "--timeout harus lebih dari 0 dan paling lama {most:.0f} detik",
    "usage.case": "--case: 1 sampai 64 huruf, angka, titik, garis bawah, atau tanda hubung",
    # when it could not be asked
    "hint": "petunjuk",
    "error.field": "{field}: {reason}",
    "hint.field": "perbaiki isian ini; belum ada yang dikirim",
    "error.NoNodeFolderError": "{home} bukan folder simpul: tidak ada node.toml di dalamnya",
    "hint.NoNodeFolderError": "sebutkan folder simpul provinsi ini dengan --home DIR",
    "error.NodeNotRunningError": "simpul provinsi ini tidak berjalan di {home}",
    "hint.NodeNotRunningError": "jalankan: pulang node serve --home {home}",
    "error.NodeGoneError": "simpul berhenti di tengah pertanyaan; tidak ada jawaban yang berlaku",
    "hint.NodeGoneError": "jalankan lagi (pulang node serve --home {home}), lalu tanyakan lagi",
    "error.PeerTimeoutError": "simpul menerima pertanyaan lalu diam",
    "hint.PeerTimeoutError": "periksa log simpul, lalu tanyakan lagi",
    "error.AccessDeniedError": "simpul ini tidak melayani pengguna komputer ini",
    "hint.AccessDeniedError": "bertanyalah sebagai pengguna yang menjalankan simpul",
    "error.BusyError": "simpul sedang menanyakan banyak klien",
    "hint.BusyError": "coba lagi sebentar lagi",
    "error.StoreError": "simpul tidak bisa mencatat pertanyaan, jadi tidak ada yang ditanyakan",
    "hint.StoreError": "periksa basis data dan ruang disk simpul",
    "error.OutcomeLostError": (
        "semua provinsi sudah ditanya, tetapi simpul tidak bisa mencatat hasilnya, jadi tidak ditampilkan"
    ),
    "hint.OutcomeLostError": "periksa basis data dan ruang disk simpul, lalu tanyakan lagi",
}

_EN: Final[dict[str, str]] = {
    "field.client": "client's description",
    "field.name": "name",
    "field.sex": "sex",
    "field.birth_date": "born",
    "field.birthplace": "birthplace",
    "field.mother_name": "mother's name",
    "field.father_name": "father's name",
    "field.title": "titles",
    "prompt.intro": "Fill in what is known. Leave empty (press Enter) what is not.",
    "prompt.name": "Name, as spoken (old spelling, alias, initials are fine)",
    "prompt.sex": "Sex (L: male, P: female)",
    "prompt.birth_date": "Born (17-8-1958, 1958, 1955-1960, 1958~3, age 63)",
    "prompt.birthplace": "Birthplace (regency or city, a district will do)",
    "prompt.mother_name": "Mother's name",
    "prompt.father_name": "Father's name",
    "prompt.name_needed": "A name is needed.",
    "prompt.understood": "Understood:",
    "prompt.send": "Send the question to every province?",
    "prompt.yes": "y",
    "prompt.no": "n",
    "prompt.cancelled": "Cancelled. Nothing was sent.",
    "known.not": "not known",
    "known.L": "male",
    "known.P": "female",
    "known.year": "year {first}",
    "known.years": "years {first} to {last}",
    "known.month": "month {month}",
    "known.day": "day {day}",
    "known.alias": "alias {words}",
    "known.father": "father {words}",
    "known.mother": "mother {words}",
    "known.more_places": "{places} and {count} more",
    "known.no_place": "no regency or city that we know",
    "reason.nothing is left of it after normalising": "no name is left once titles and signs are taken off",
    "reason.empty": "empty",
    "reason.not a date": "no date, year or age that we can read",
    "reason.no year in it": "there is no year in it",
    "reason.a two-digit year that may be of two centuries": "two digits may mean two centuries: write all four",
    f"reason.a year outside {FIRST_YEAR} to {LAST_YEAR}": f"a year outside {FIRST_YEAR} to {LAST_YEAR}",
    "reason.no such month": "there is no such month",
    "reason.no such day in that month": "there is no such day in that month",
    f"reason.more than {MAX_MARGIN_YEARS} years either way": f"more than {MAX_MARGIN_YEARS} years either way",
    "reason.an age or a year? Write `63 th` for an age, `1963` for a year": (
        "an age or a year? Write '63 th' for an age, '1963' for a year"
    ),
    f"reason.an age above {OLDEST_AGE}": f"an age above {OLDEST_AGE}",
    "reason.in the future": "in the future",
    f"reason.before {FIRST_YEAR}": f"before {FIRST_YEAR}",
    "reason.neither L (laki-laki) nor P (perempuan)": "neither L (male) nor P (female)",
    "reason.cannot be read": "cannot be read",
    f"reason.over {MAX_FILE_BYTES} bytes": f"over {MAX_FILE_BYTES} bytes: not a client's description",
    "reason.not UTF-8": "not UTF-8: save it as UTF-8",
    "reason.not one object with named fields": f"not one client with named fields ({_KEYS})",
    "reason.a field that no client has": f"a field that no client has; known: {_KEYS}",
    "reason.a field that stands twice": "a field that stands twice",
    "reason.not text": 'not text: write it in quotes "..."',
    f"reason.longer than {MAX_VALUE_CHARS} characters": f"longer than {MAX_VALUE_CHARS} characters",
    "reason.a control character in it": "a control character in it: write it on one line",
    "reason.not JSON": "not JSON",
    "reason.neither TOML nor JSON": "neither TOML nor JSON",
    "reason.nested too deep": "nested too deep: not a client's description",
    "warning": "note",
    "warning.unknown_place": "no regency or city that we know; only its spelling is compared",
    "warning.only_initials": "initials only; the result will be weak",
    "warning.cut": "too long; only its rarest words are used",
    "warning.unusable": "cannot be used; asking without it",
    "head.asking": "Case {case}: asking {count} provinces",
    "head.asked": "Case {case}: {answered} of {count} provinces answered in {ms} ms",
    "column.province": "Province",
    "column.state": "State",
    "column.ms": "ms",
    "own": "{name} (ours)",
    "state.asked": "asked ...",
    "state.answered": "answered",
    "state.need_more": "needs more: {fields}",
    "state.busy": "busy",
    "state.busy_for": "busy, try again in {seconds:.0f} s",
    "state.refused": "refused",
    "state.unavailable": "cannot answer now",
    "state.unreachable": "no connection",
    "state.timed_out": "no answer in time",
    "state.broke_contract": "invalid answer",
    "state.not_asked": "not asked",
    "state.failed": "failed at our node",
    "outcome.home_found": "HOME PROVINCE FOUND: {province}",
    "outcome.ambiguous": "NOT CERTAIN YET",
    "outcome.not_registered": "NOT REGISTERED",
    "outcome.incomplete": "INCOMPLETE",
    "say.home_found": "Probability {percent}. Call the Dinas Sosial of {province} with the candidate's code below.",
    "say.home_own": "Probability {percent}. This client is registered in our own province; see the codes below.",
    "say.ambiguous": "Possible: {provinces}.",
    "say.ambiguous_none": "No province stands out.",
    "say.not_registered": "Every province answered, and none of them knows this client (probability {percent}).",
    "say.incomplete": "No answer from: {provinces}. This does not mean that the client is not registered there.",
    "say.so_far": "So far: {province} (probability {percent}).",
    "say.again": "Ask again later.",
    "say.asked_again": "The node asks them again by itself until {until}; see: pulang case show {case}",
    "ask.name": "Ask for the full name, all of its words.",
    "ask.birth_date": "Ask for the date of birth, as complete as can be, or the age.",
    "ask.birthplace": "Ask in which regency or city the client was born.",
    "ask.mother_name": "Ask for the mother's name.",
    "ask.father_name": "Ask for the father's name.",
    "ask.title": "Ask for titles, such as Haji or Raden; write them before the name.",
    "ask.sex": "Fill in the sex.",
    "head.ranking": "Probability of being the home province",
    "ranking.none": "none of these",
    "ranking.unanswered": "{name} (no answer yet)",
    "ranking.rest": "{count} other provinces",
    "head.finds": "Closest candidates (a code means something to the answering province only)",
    "find.one": "1 person",
    "find.some": "{count} persons",
    "find.many": "about {count} persons",
    "find.code": "code {code}",
    "head.why": "Why {province}? Weight in bits: + speaks for it, - against it",
    "head.nearest": "The most alike, in {province}. Weight in bits: + speaks for it, - against it",
    "why.sum": "sum",
    # cases
    "case.help.group": "Cases that were asked about: look, close, reopen.",
    "case.none": "No cases.",
    "case.column.case": "Case",
    "case.column.asked": "Asked",
    "case.column.outcome": "Result",
    "case.column.answered": "Answered",
    "case.column.next": "Asked again",
    "case.new": "NEW",
    "case.open": "Case {case}, asked {asked}; {answered} of {count} provinces have answered",
    "case.closed": "Case {case}, closed {closed}: {reason}",
    "case.erased": "What was asked and answered has been erased; the last result: {outcome}",
    "case.not_yet": "no result yet",
    "case.provinces": "Provinces",
    "case.column.attempts": "tries",
    "case.column.next_try": "asked again",
    "case.history": "History",
    "case.until": "Who has not answered is asked again until {until}.",
    "case.over": (
        "Asked until {until}; who has not answered is not asked again. To ask anew: pulang case reopen {case}"
    ),
    "case.reopened": "Case {case} is open; who has not answered is asked again until {until}.",
    "case.event.concluded": "first result: {outcome}",
    "case.event.amended": "{detail} answered; result: {outcome}",
    "case.event.gave_up": "time is over and not everybody has answered; result: {outcome}",
    "case.event.renewed": "the registry of {detail} has changed; asked again",
    "case.event.closed": "closed: {detail}",
    "case.event.reopened": "reopened",
    "case.outcome.home_found": "found: {province}",
    "case.outcome.ambiguous": "not certain yet",
    "case.outcome.not_registered": "not registered",
    "case.outcome.incomplete": "incomplete",
    "case.reason.found": "home found",
    "case.reason.returned": "returned home",
    "case.reason.deceased": "deceased",
    "case.reason.left": "left",
    "case.reason.other": "other",
    "case.reason.superseded": "asked anew",
    "case.reason.expired": "open for too long",
    "case.reason.unreadable": "its key is lost",
    "help": (
        "Find a client's home province: ask every province at once.\n\n"
        "Without arguments it asks field by field. A name on the command line can be seen in this machine's process "
        "list and in the shell's history: no arguments, or --from, is safer."
    ),
    "help.exit": (
        "Exit codes: 0 home province found, 10 not certain yet, 11 not registered, 12 incomplete (a province did not "
        "answer), 65 a value is wrong, 69 no node is running, 74 cannot be recorded, 75 the node is busy, "
        "77 not allowed."
    ),
    "help.name": "Name as spoken. Can be seen in the process list.",
    "help.sex": "L (male) or P (female).",
    "help.born": "17-8-1958, 1958, 1955-1960, 1958~3, 'age 63'.",
    "help.birthplace": "Regency or city; a district will do.",
    "help.mother": "Mother's name. Can be seen in the process list.",
    "help.father": "Father's name. Can be seen in the process list.",
    "help.source": "Read the client from a TOML or JSON file (keys: {keys}); - means standard input.",
    "help.home": "Folder of this province's node.",
    "help.lang": "Language: id or en.",
    "help.as_document": "Print one JSON document and nothing else, for programs.",
    "help.timeout": "Seconds to wait for all provinces, at most {most:.0f}.",
    "help.case": "Your own case number; other provinces see it, so never a name. Made up when not given.",
    "help.purpose": "Why you ask.",
    "usage.nothing": "no client: give --name or --from; without arguments, run it in a terminal",
    "usage.both": "either --from, or the client's fields on the command line",
    "usage.name": "--name is needed",
    "usage.words": 'words outside of any option: write a name in quotes, --name "..."',
    "usage.value": "{option}: not a value it knows; it knows: {form}",
    "usage.timeout": "--timeout must be above 0 and at most {most:.0f} seconds",
    "usage.case": "--case: 1 to 64 letters, digits, dots, underscores or hyphens",
    "hint": "hint",
    "error.field": "{field}: {reason}",
    "hint.field": "correct this value; nothing was sent",
    "error.NoNodeFolderError": "{home} is not a node's folder: it has no node.toml",
    "hint.NoNodeFolderError": "name the folder of this province's node with --home DIR",
    "error.NodeNotRunningError": "no node is running in {home}",
    "hint.NodeNotRunningError": "start it: pulang node serve --home {home}",
    "error.NodeGoneError": "the node went away in mid-question; no answer counts",
    "hint.NodeGoneError": "start it again (pulang node serve --home {home}), then ask again",
    "error.PeerTimeoutError": "the node accepted the question and fell silent",
    "hint.PeerTimeoutError": "look at the node's log, then ask again",
    "error.AccessDeniedError": "this node does not serve this user",
    "hint.AccessDeniedError": "ask as the user that runs the node",
    "error.BusyError": "the node is asking about many clients",
    "hint.BusyError": "try again in a moment",
    "error.StoreError": "the node cannot record the question, so nothing was asked",
    "hint.StoreError": "look at the node's database and its disk",
    "error.OutcomeLostError": (
        "the provinces were asked, but the node cannot record what they said, so it is not shown"
    ),
    "hint.OutcomeLostError": "look at the node's database and its disk, then ask again",
}

TEXTS: Final[dict[str, dict[str, str]]] = {"id": _ID, "en": _EN}

# What nodes say of why they did not answer. They speak English to each other; what is not here is shown as it came.
DETAILS: Final[dict[str, dict[str, str]]] = {
    "id": {
        "no connection. The host is down, or it refused our certificate (gRPC cannot tell).": (
            "tidak tersambung. Komputernya mati, atau sertifikat kita ditolak (tidak bisa dibedakan)."
        ),
        "the connection was closed before the answer came": "sambungan terputus sebelum jawaban datang",
        "the connection broke before the answer came": "sambungan rusak sebelum jawaban datang",
        "it is closed until it has a list of members that counts": (
            "simpul di sana tertutup sampai punya daftar anggota yang berlaku"
        ),
        "no answer before the deadline": "tidak menjawab sampai batas waktu",
        "it does not trust our certificate": "sertifikat kita tidak dipercaya di sana",
        "it does not allow us this call": "panggilan ini tidak diizinkan di sana",
        "a message is over its limit": "ada pesan yang melebihi batas",
        "it cannot read our question": "pertanyaan kita tidak bisa dibaca di sana",
        "it failed inside, and knows this failure as": "gagal di dalam; di sana tercatat sebagai",
        "no registry imported yet": "belum ada data yang diimpor",
        "the audit cannot be written": "catatan audit tidak bisa ditulis",
        "the disk is nearly full": "diska hampir penuh",
        "the node is stopping": "simpul sedang berhenti",
        "not dialled: it has failed several times in a row": "tidak dihubungi: sudah gagal beberapa kali",
        "too many of our own questions wait for it": "terlalu banyak pertanyaan kita sendiri yang menunggu",
        "the policy does not allow this purpose": "tujuan pertanyaan ini tidak diizinkan",
        "the budget of questions is used up; ask again another day": (
            "jatah pertanyaan kita di sana sudah habis; tanyakan lagi lain hari"
        ),
        "the nonce belongs to another question": "nomor acak pertanyaan ini sudah dipakai pertanyaan lain",
        "our own certificate is past its end, or not yet valid": "sertifikat kita sudah habis atau belum berlaku",
    },
    "en": {},
}


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one language."""

    language: str

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values filled in."""
        return TEXTS[self.language][key].format(**values)

    def knows(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in TEXTS[self.language]

    def field(self, name: str) -> str:
        """Return what a field of the schema is called; `born` is what the parser calls a birth date."""
        return self("field.birth_date" if name == "born" else f"field.{name}")

    def reason(self, reason: str) -> str:
        """Return why a value cannot be used; in English as it came, when there is no text for it."""
        if self.knows(f"reason.{reason}"):
            return self(f"reason.{reason}")
        head, bracket, place = reason.partition(" (")  # "not JSON (line 1, column 2)"
        return self(f"reason.{head}") + bracket + place if self.knows(f"reason.{head}") else reason

    def detail(self, said: str) -> str:
        """Return what a node said of why it did not answer; what follows its own words stays as it came."""
        words = DETAILS[self.language]
        if said in words:
            return words[said]
        head, colon, rest = said.partition(": ")
        return words.get(head, head) + colon + rest

    def percent(self, probability: float) -> str:
        """Return a probability as people read it; certainty is never claimed, and never excluded."""
        if probability >= 0.9995:
            text = "> 99.9%"
        elif probability < 0.0005:
            text = "< 0.1%"
        else:
            text = f"{100 * probability:.1f}%"
        return self._decimal(text)

    def bits(self, bits: float) -> str:
        """Return a weight in bits with its sign."""
        return self._decimal(f"{bits:+.1f}")

    def _decimal(self, text: str) -> str:
        return text.replace(".", ",") if self.language == "id" else text
