"""Plays the demo, exports all tables in all formats, and compares what pyarrow reads with JSON lines."""

import csv
import decimal
import json
import pathlib
import subprocess
import sys
import tempfile

import pyarrow
import pyarrow.parquet

TABLES = ["calls", "decisions", "budgets", "charges", "metrics", "content"]
# Tables of which the demo records nothing.
MAY_BE_EMPTY = {"metrics"}


def export(binary, home, form):
    command = [binary, "export", *TABLES, "--format", form, "--out", home / form, "--dir", home / "data"]
    subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL)


def plain(value, kind, is_json):
    """A value of Parquet as JSON lines say it."""
    if value is None:
        return None
    if pyarrow.types.is_timestamp(kind):
        assert kind.unit == "us" and kind.tz == "UTC", kind
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, decimal.Decimal):
        return f"{value:.9f}"
    return json.loads(value) if is_json else value


def guarded(text):
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def check(home, name):
    lines = (home / "jsonl" / f"{name}.jsonl").read_text("utf-8").split("\n")[:-1]
    expected = [json.loads(line) for line in lines]
    path = home / "parquet" / f"{name}.parquet"
    table = pyarrow.parquet.read_table(path)
    logical = pyarrow.parquet.ParquetFile(path).schema
    is_json = {
        logical.column(at).name: logical.column(at).logical_type.type == "JSON"
        for at in range(len(logical.names))
    }
    rows = [
        {field.name: plain(row[field.name], field.type, is_json[field.name]) for field in table.schema}
        for row in table.to_pylist()
    ]
    assert rows == expected, f"{name}: Parquet and JSON lines differ"
    with open(home / "csv" / f"{name}.csv", encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file, strict=True))
    assert len(read) == len(expected), f"{name}: {len(read)} rows of CSV, {len(expected)} expected"
    for row, whole in zip(read, expected):
        for column, value in whole.items():
            if isinstance(value, str):
                assert row[column] in (value, guarded(value)), (name, column, row[column], value)
            elif value is None:
                assert row[column] == "", (name, column)
    assert expected or name in MAY_BE_EMPTY, f"{name}: nothing was exported"
    print(f"{name}: {len(expected)} rows, {len(table.schema)} columns, the same in all formats")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        demo = [binary, "demo", "--fast", "--once", "--dir", home / "data"]
        subprocess.run(demo, check=True, cwd=home, stdout=subprocess.DEVNULL)
        for form in ("parquet", "jsonl", "csv"):
            export(binary, home, form)
        for name in TABLES:
            check(home, name)


main()
