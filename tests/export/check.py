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

TABLES = ["calls", "decisions", "budgets", "charges", "metrics", "content", "bodies"]
CONFIG = """
[proxy]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"
"""
# Numbers that lose their last bit where somebody reads them carelessly, and what is no number.
MEASURED = ["0.1", "0.30000000000000004", "5e-324", "1.7976931348623157e308", "-2", "true", "good"]


def export(binary, home, form):
    command = [binary, "export", *TABLES, "--format", form, "--out", home / form, "--dir", home / "data"]
    subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL)


def measure(binary, home):
    """The demo measures nothing: a server that goes on with its ledger takes some measurements."""
    (home / "config.toml").write_text(CONFIG)
    serve = [binary, "serve", "--config", "config.toml", "--dir", home / "data"]
    server = subprocess.Popen(serve, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        for _ in range(2):
            server.stdout.readline()
        for number, value in enumerate(MEASURED):
            of = ["--run", f"run-{number}", "--who", "judge", "--dir", home / "data"]
            command = [binary, "metric", "set", "score", *of, "--", value]
            subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL)
    finally:
        server.terminate()
        server.wait()


def check_numbers(home):
    table = pyarrow.parquet.read_table(home / "parquet" / "metrics.parquet").to_pylist()
    found = {row["run_id"]: row for row in table if row["name"] == "score"}
    for number, value in enumerate(MEASURED):
        row = found[f"run-{number}"]
        if value == "good":
            assert row["category"] == value and row["value"] is None, row
        else:
            assert row["value"] == (1.0 if value == "true" else float(value)), (value, row)


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
    assert expected, f"{name}: nothing was exported"
    print(f"{name}: {len(expected)} rows, {len(table.schema)} columns, the same in all formats")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        demo = [binary, "demo", "--fast", "--once", "--dir", home / "data"]
        subprocess.run(demo, check=True, cwd=home, stdout=subprocess.DEVNULL)
        measure(binary, home)
        for form in ("parquet", "jsonl", "csv"):
            export(binary, home, form)
        for name in TABLES:
            check(home, name)
        check_numbers(home)


main()
