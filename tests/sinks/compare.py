"""Holds what a database has against what the ledger exports, value by value."""

import datetime
import decimal
import json
import re

TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?$")
KEYS = {"calls": "call_id", "decisions": None, "metrics": None}


def moment(text, whole_seconds):
    text = text.replace("Z", "").replace("+00:00", "").replace(" ", "T")
    front, _, part = text.partition(".")
    at = datetime.datetime.fromisoformat(front)
    return at, "" if whole_seconds else part.ljust(6, "0")


def plain(value, whole_seconds):
    """The same for whatever says the same."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, decimal.Decimal):
        return value.normalize() if value else decimal.Decimal(0)
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True, default=float)
    if not isinstance(value, str):
        return value
    if TIME.match(value):
        return moment(value, whole_seconds)
    return value


def number(text):
    """Whole numbers stay whole, others are held to the last digit."""
    return decimal.Decimal(text)


def alike(expected, found):
    """Columns of the export: what JSON lines say of a sum is a text, of JSON is a value."""
    if isinstance(expected, (dict, list)) and isinstance(found, str):
        found = json.loads(found)
    elif isinstance(found, decimal.Decimal) and isinstance(expected, str):
        expected = number(expected)
    elif isinstance(expected, str) and isinstance(found, (int, float)) and re.match(r"^-?\d+\.\d{9}$", expected):
        expected, found = number(expected), number(str(found))
    elif isinstance(expected, int) and not isinstance(expected, bool) and isinstance(found, str):
        found = int(found)
    elif isinstance(expected, float) and found is not None:
        found = float(found)
    return expected, found


def difference(store, table, instance, expected):
    """None where the database has these rows and no others."""
    whole_seconds = "Debian" in store.kind
    found = store.rows(f"SELECT * FROM {store.table(table)} WHERE instance = '{instance}'", number)
    if len(found) != len(expected):
        return f"{store.kind}: {table} has {len(found)} rows, the ledger {len(expected)}"
    ignored = {"instance", "written_at", "version", "of_their_own"} | (set() if table == "calls" else {"id"})

    def key(row):
        if KEYS[table]:
            return row[KEYS[table]]
        names = ["at", "what", "details"] if table == "decisions" else ["measured_at", "name", "call_id", "key", "who"]
        names += ["run_id"] if table == "metrics" else []
        return str([plain(row[name], whole_seconds) for name in names])

    known = sorted(found, key=key)
    for want, have in zip(sorted(expected, key=key), known):
        columns = set(have) - ignored
        # What was said stays in the ledger.
        wanted = set(want) - {"loop_sample"}
        if columns != wanted:
            return f"{store.kind}: {table} has the columns {sorted(columns ^ wanted)} too many or too few"
        for name in columns:
            one, other = alike(want[name], have[name])
            if plain(one, whole_seconds) != plain(other, whole_seconds):
                return f"{store.kind}: {table}.{name} is {have[name]!r}, expected {want[name]!r} ({key(want)})"
    return None


def sums(store, instance):
    """Calls, tokens and money, summed up by the database."""
    asked = (
        "SELECT count(*) AS calls, sum(input_tokens) AS input, sum(output_tokens) AS output, "
        "sum(cost_nano_usd) AS nanos, sum(cost_usd) AS usd FROM " + store.table("calls")
    )
    row = store.rows(f"{asked} WHERE instance = '{instance}'", number)[0]
    return {name: number(str(value)) for name, value in row.items()}


def expected_sums(calls):
    of = lambda name: sum((number(str(call[name])) for call in calls if call[name] is not None), number("0"))
    return {
        "calls": number(str(len(calls))), "input": of("input_tokens"), "output": of("output_tokens"),
        "nanos": of("cost_nano_usd"), "usd": of("cost_usd"),
    }
