"""Splink (DuckDB) on cleaned plain text: m from known pairs, then candidates. Runs in the peers' environment.

python splink_candidates.py JOB.json; benchmarks/peers.py writes the job.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import splink.comparison_level_library as cll
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

NAME_STEPS = (0.97, 0.94, 0.91, 0.88, 0.84, 0.8, 0.75)  # Jaro-Winkler
COMMON_NAMES_COUNT_FROM = 0.9  # a close name is worth less when it is common; further off, that helped nothing
SAMPLED_PAIRS = 5e6  # for u
LEAST_WEIGHT = -25  # bits, prior included: pairs below are nobody's candidates

PREPARE = """
create or replace table {table} as
with read as (
    select {id} as id, {province} as province,
        nullif(name, '') as name, nullif(sex, '') as sex, try_cast(nullif(birth_year, '') as integer) as birth_year,
        nullif(birth_day, '') as birth_day, nullif(birthplace, '') as birthplace, nullif(mother_name, '') as mother_name
    from read_csv('{path}', all_varchar = true, header = true)
)
select *, string_split(name, ' ') as name_tokens, string_split(mother_name, ' ') as mother_name_tokens,
    list_sort(string_split(name, ' ')) as name_sorted, list_sort(string_split(mother_name, ' ')) as mother_name_sorted,
    string_split(mother_name, ' ')[1] as mother_first,
    list_transform(string_split(name, ' '), lambda t: {sound}) as name_sounds
from read
"""


def sound_sql():
    """Return a sound key of a token `t`: old spellings made new, f as p, z as s, vowels after the first letter gone."""
    text = "t"
    for old, new in (("oe", "u"), ("tj", "c"), ("dj", "j"), ("sj", "s"), ("sy", "s"), ("kh", "h")):
        text = f"replace({text}, '{old}', '{new}')"
    text = f"translate({text}, 'fvzyeo', 'ppsiia')"
    return f"substr(regexp_replace({text}, '([a-z])[aiueoh]*', '\\1', 'g'), 1, 4)"


def names(column):
    """Compare names: the same, the same tokens, one's tokens among the other's, and seven steps of Jaro-Winkler."""
    close, further = [], []
    for step in NAME_STEPS:
        if step > COMMON_NAMES_COUNT_FROM:
            level = cll.JaroWinklerLevel(column, step)
            close.append(level.configure(tf_adjustment_column=column, tf_adjustment_weight=1.0))
        else:
            further.append(cll.JaroWinklerLevel(column, step))
    levels = [
        cll.NullLevel(column),
        cll.ExactMatchLevel(column, term_frequency_adjustments=True),
        cll.CustomLevel(f"{column}_sorted_l = {column}_sorted_r", label_for_charts="same tokens"),
        *close[:2],
        cll.ArraySubsetLevel(f"{column}_tokens"),
        *close[2:],
        *further,
        cll.ElseLevel(),
    ]
    return cl.CustomComparison(levels, output_column_name=column)


def dates():
    """Compare birth dates given as a year and, where known, month and day."""
    month, day = "substr(birth_day_{0}, 1, 2)", "substr(birth_day_{0}, 3, 2)"
    year, same_day = "birth_year_l = birth_year_r", "birth_day_l = birth_day_r"
    swapped = f"{month.format('l')} = {day.format('r')} and {day.format('l')} = {month.format('r')}"
    part = f"({month.format('l')} = {month.format('r')} or {day.format('l')} = {day.format('r')})"
    off = "abs(birth_year_l - birth_year_r)"
    levels = [
        cll.NullLevel("birth_year"),
        cll.CustomLevel(f"{year} and {same_day}", label_for_charts="same day"),
        cll.CustomLevel(f"{year} and {swapped}", label_for_charts="day and month swapped"),
        cll.CustomLevel(f"{year} and {part}", label_for_charts="same year and month, or year and day"),
        cll.CustomLevel(f"{year} and (birth_day_l is null or birth_day_r is null)", label_for_charts="same year"),
        cll.CustomLevel(year, label_for_charts="same year, another day"),
        cll.CustomLevel(f"{off} <= 10 and {same_day}", label_for_charts="same day of a near year"),
        *(cll.CustomLevel(f"{off} <= {years}", label_for_charts=f"{years} years off") for years in (1, 2, 4, 7, 10)),
        cll.ElseLevel(),
    ]
    return cl.CustomComparison(levels, output_column_name="born")


def settings(share):
    """Return the model. share: probability that a query and a person drawn at random are one."""
    places = [
        cll.NullLevel("birthplace"),
        cll.ExactMatchLevel("birthplace", term_frequency_adjustments=True),
        cll.JaroWinklerLevel("birthplace", 0.9),
        cll.ElseLevel(),
    ]
    return SettingsCreator(
        link_type="link_only",
        unique_id_column_name="id",
        probability_two_random_records_match=share,
        comparisons=[
            names("name"),
            cl.ExactMatch("sex"),
            dates(),
            cl.CustomComparison(places, output_column_name="birthplace"),
            names("mother_name"),
        ],
        blocking_rules_to_generate_predictions=[
            block_on("name"),
            block_on("name_tokens", "birth_year", "sex", arrays_to_explode=["name_tokens"]),
            block_on("name_tokens", "birthplace", arrays_to_explode=["name_tokens"]),
            block_on("mother_name", "sex"),
            block_on("birth_year", "birthplace", "sex"),
            block_on("birth_year", "birth_day"),
            block_on("substr(name, 1, 4)", "sex"),
            block_on("name_sounds", "birth_year", arrays_to_explode=["name_sounds"]),
            block_on("name_sounds", "mother_first", arrays_to_explode=["name_sounds"]),
            block_on("name_sounds", "birthplace", arrays_to_explode=["name_sounds"]),
        ],
        retain_matching_columns=False,
        additional_columns_to_retain=["province"],
    )


def load(api, folder, tag):
    """Register the queries and the registry of a population."""
    tables = []
    for which, key, province in (("queries", "query_id", "''"), ("registry", "record_id", "province")):
        table, path = f"{tag}_{which}", f"{folder}/{which}.csv"
        api.duckdb_con.execute(PREPARE.format(table=table, id=key, province=province, path=path, sound=sound_sql()))
        tables.append(api.register(table, table_name=f"input_{table}", dataset_display_name=which))
    return tables


def write_candidates(linker, con, path, top):
    """Score the blocked pairs; write the best of every query."""
    pairs = linker.inference.predict(threshold_match_weight=LEAST_WEIGHT, warning_mode="never")
    con.execute(
        f"""copy (select id_l as query_id, id_r as record_id, province_r as province, match_weight as score
        from {pairs.physical_name}
        qualify row_number() over (partition by id_l order by match_weight desc, id_r) <= {top}
        order by query_id, score desc, record_id) to '{path}' (header)"""
    )


def main():
    """Do the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    train, report = job["populations"]["train"], job["populations"]["report"]
    con = duckdb.connect()
    con.execute(f"set memory_limit = '{job['memory']}'; set temp_directory = '{job['scratch']}'")
    con.execute("set enable_progress_bar = false")
    api = DuckDBAPI(con)
    trainer = Linker(load(api, train, "train"), settings(job["share"]), log_level=None)
    trainer.training.estimate_u_using_random_sampling(SAMPLED_PAIRS, seed=1)
    con.execute(
        f"""create table labels as select 'queries' as source_dataset_l, query_id as id_l,
        'registry' as source_dataset_r, record_id as id_r from read_csv('{train}/truth.csv', all_varchar = true)"""
    )
    trainer.training.estimate_m_from_pairwise_labels(api.register("labels"))
    model = trainer.misc.save_model_to_json()
    write_candidates(trainer, con, job["out"]["train"], job["top"])
    model["probability_two_random_records_match"] = job["report_share"]
    linker = Linker(load(DuckDBAPI(con), report, "report"), model, log_level=None)
    linker.training.estimate_u_using_random_sampling(SAMPLED_PAIRS, seed=1)
    write_candidates(linker, con, job["out"]["report"], job["top"])


if __name__ == "__main__":
    main()
