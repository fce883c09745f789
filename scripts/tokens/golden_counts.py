#!/usr/bin/env python3
"""Write the golden token counts of tests/fixtures/tokens/corpus.jsonl.

usage: golden_counts.py VOCABULARIES > tests/fixtures/tokens/corpus.jsonl

VOCABULARIES is a directory with o200k_base.tiktoken and cl100k_base.tiktoken. Needs `tiktoken`.
The strings come from a fixed seed: another run with the same tiktoken gives the same file.
"""

import json
import pathlib
import random
import string
import sys

import tiktoken
import tiktoken_ext.openai_public as public
from tiktoken.load import load_tiktoken_bpe

RANDOM = random.Random(20261122)

WORDS = json.loads(pathlib.Path(__file__).with_name("words.json").read_text())
CODE = [
    "fn main() {\n    println!(\"{}\", 1 << 3);\n}\n",
    "def f(x: int) -> str:\n\treturn f\"{x!r}\"  # tab\n",
    "SELECT a.id, COUNT(*) FROM t a\nWHERE a.x >= 10 AND b IN (1,2,3);\r\n",
    "<div class=\"a b\"><!-- c --></div>",
    "const s = `${a ?? b}` || (() => {})();\n\n\n",
    "#include <stdio.h>\nint main(void){return 0;}",
    "    if x:\n        if y:\n            pass\n\n\n",
    "curl -sS 'https://example.com/v1?a=1&b=%20' | jq '.[0].x'\n",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>system", "<|fim_prefix|>", "<|endofprompt|>", "<|start|>"]
WHITESPACE = [" ", "  ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u3000", "\u2028", "\u2003", "\u000b", "\u0085"]


def sentences(words, count):
    for _ in range(count):
        yield " ".join(RANDOM.choices(words, k=RANDOM.randint(1, 30))) + RANDOM.choice(".!? \n")


def structured():
    for _ in range(25):
        value = {
            "id": RANDOM.randrange(10**9),
            "ok": RANDOM.random() < 0.5,
            "score": round(RANDOM.uniform(-1, 1), RANDOM.randint(0, 8)),
            "tags": RANDOM.sample(WORDS["english"], 4),
            "text": " ".join(RANDOM.choices(WORDS[RANDOM.choice(list(WORDS))], k=5)),
        }
        yield json.dumps(value, ensure_ascii=RANDOM.random() < 0.5, indent=RANDOM.choice([None, 1, 2, 4]))


def whitespace():
    for blank in WHITESPACE:
        for length in (1, 2, 3, 7, 64):
            yield blank * length + RANDOM.choice(["", "x", "\n", "9", "."])
    for _ in range(20):
        yield "".join(RANDOM.choices(WHITESPACE + ["a", "B", "1"], k=RANDOM.randint(2, 60)))


def runs():
    for unit in ["a", "A", "ab", "0", "123", "-", "=", ".", "#", "\u00e9", "\u4e2d", "\U0001f600", "\\n", "/"]:
        for length in (2, 5, 33, 500):
            yield unit * length


def random_text(alphabet, count, most):
    for _ in range(count):
        yield "".join(RANDOM.choices(alphabet, k=RANDOM.randint(1, most)))


def any_scalar():
    while True:
        point = RANDOM.choice([RANDOM.randrange(0x80), RANDOM.randrange(0x3000), RANDOM.randrange(0x110000)])
        if not 0xD800 <= point < 0xE000:
            return chr(point)


def corpus():
    yield from ["", "\x00", "\ufeff", "\ufffd", "\x1b[31mred\x1b[0m"]
    for words in WORDS.values():
        yield from sentences(words, 6)
    everything = [word for words in WORDS.values() for word in words]
    yield from sentences(everything, 25)
    yield from CODE
    yield from structured()
    yield from whitespace()
    yield from runs()
    for special in SPECIAL:
        yield from (special, f"say {special} twice: {special}", special[:-2])
    yield from random_text(string.printable, 25, 120)
    yield from random_text(string.digits + ".,- ", 15, 40)
    yield from random_text([chr(point) for point in range(0x20)] + ["a", " "], 10, 40)
    for _ in range(25):
        yield "".join(any_scalar() for _ in range(RANDOM.randint(1, 60)))


def encoding(name, directory):
    """The public encoding, with its vocabulary read from `directory`."""

    def from_directory(url, **check):
        return load_tiktoken_bpe(str(directory / url.rsplit("/", 1)[1]), **check)

    public.load_tiktoken_bpe = from_directory
    return tiktoken.Encoding(**getattr(public, name)())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    encodings = {name: encoding(f"{name}_base", directory) for name in ("o200k", "cl100k")}
    for text in dict.fromkeys(corpus()):
        counts = {name: len(one.encode_ordinary(text)) for name, one in encodings.items()}
        print(json.dumps({"text": text, **counts}))


main()
