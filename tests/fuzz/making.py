"""How inputs are made: nasty texts and values, and real ones with something changed.

Everything is drawn from a `random.Random`: one that hypothesis guides and shrinks, or one of a seed, which is faster.
"""

import re
from random import Random
from typing import Any

LONG = 20_000
"""Characters of a long text."""
_DIGITS = re.compile(rb"[0-9]+")
NUMBERS = (
    "0", "1", "-1", "00", "007", "2147483648", "4294967294", "9223372036854775807", "18446744073709551614",
    "1e999", "1e-999", "nan", "inf", "-inf", "0x10", "1_000", "1.5", "1.", ".5", "\u00b2", "\u0661\u0662", "9" * 400, "9" * 5000,
    "1:2:3:4", "1-1-1", "99999999-00:00:00", "16?", "3K", "K", "M", "N/AK", "1KM",
)  # fmt: skip
BRACKETS = (
    "[", "]", "[[", "[]", "n[", "n[]", "n[1-3", "n1-3]", "n[3-1]", "n[1-999999999]", "n[1-99999999999999999999]",
    "n[1-2:0]", "n[1-9:-1]", "n[1-3:x]", "a[1-999][1-999][1-999]", f"n[{'1-999999,' * 50}1]", f"n[{'0' * 3000}1-99999]",
    "[1-9%2]", "[%]", "[1-9%]", "n[1,,2]", "n[-1]", "n[[1-2]-3]", "(", ")", "gpu(", "gpu:a(S:0-1", "{", "}", "<", "\\",
)  # fmt: skip
WORDS = (
    "", " ", "\n", "\t", "\r\n", "\0", "\x1f", "\x85", "\u2028", "N/A", "n/a", "(null)", "None", "Unknown", "UNLIMITED",
    "INVALID", "NONE", "ALL", "=", "a=b", ",", ",,", "a=,=b", "|", ":", "::", "/", "//", "@", "*", "+", "_", "\"", "'", "%",
    "CANCELLED by 0", "CANCELLED by \u00b2", "PENDING", "RUNNING", "RESIZING", "REQUEUED", "DOWN*+DRAIN", "MIXED+LEVITATING",
    "\ufeff", "\U0001f984", "e\u0301", "State=IDLE", "NodeName=x Arch=y", "JobId=1", "true", "~", "null",
)  # fmt: skip
PIECES = (
    " ", "\n", "(", "[", "[1]", "n[1-2]", "{", "a", "1", "0", "9", "@", "/", ":", "=", ",", "a,", "1,", "a=1,", "gpu:1,",
    " [x@y", " Reason=", "\u00b2", "\U0001f984", "*a", "- ", "[a,", "A ", "a= ",
)  # fmt: skip
"""What long texts are made of: the same piece very often."""


def nasty(random: Random) -> str:
    """Return a text that was no good to somebody once, or one like it."""
    kind = random.randrange(16)
    if kind < 5:
        return random.choice(NUMBERS)
    if kind < 9:
        return random.choice(BRACKETS)
    if kind < 13:
        return random.choice(WORDS)
    if kind < 15:
        return "".join(
            chr(random.choice((random.randrange(128), random.randrange(0x500)))) for _ in range(random.randrange(12))
        )
    return long(random)


def long(random: Random) -> str:
    """Return a piece that is repeated up to a few thousand times, with another behind it."""
    piece = random.choice(PIECES)
    times = random.choice((10, 100, 1000, LONG)) // len(piece)
    return piece * times + random.choice(("", "x", "\n", "=", "]", ")", random.choice(PIECES)))


def mutated(random: Random, said: bytes) -> bytes:
    """Return a real answer, or a part of one, with one to three things changed."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        said = _changed(random, said)
    return said


def _changed(random: Random, said: bytes) -> bytes:
    begin, end = sorted((random.randint(0, len(said)), random.randint(0, len(said))))
    end = min(end, begin + random.choice((1, 8, 100, 10_000)))
    kind = random.randrange(10)
    if kind == 0:
        return said[:begin] + said[end:]
    if kind == 1:
        return said[:end] + said[begin:end] * random.choice((1, 2, 20)) + said[end:]
    if kind == 2:
        return said[:begin] + said[end:] + said[begin:end]
    if kind == 3:
        return said[:begin]
    if kind == 4:
        return said[:begin] + bytes([random.choice((0, 9, 10, 13, 28, 61, 91, 127, 128, 193, 255))]) + said[begin:]
    if kind in (5, 6):
        numbers = list(_DIGITS.finditer(said))
        if numbers:
            begin, end = random.choice(numbers).span()
    new = random.choice(NUMBERS) if kind in (5, 6) else nasty(random)
    return said[:begin] + new.encode() + said[end:]


def mutated_text(random: Random, said: str) -> str:
    """Return a text with something changed, as `mutated`."""
    return mutated(random, said.encode("utf-8", "replace")).decode("utf-8", "replace")


def text_like(random: Random, *real: str) -> str:
    """Return a nasty text, or one of real ones with something changed, or two together."""
    kind = random.randrange(8)
    if kind == 0:
        return nasty(random)
    if kind == 1:
        return random.choice(real) + nasty(random)
    return mutated_text(random, random.choice(real))


def changed_fields(random: Random, row: dict[str, str]) -> dict[str, str]:
    """Return a row of which one to five values are others."""
    row = dict(row)
    for name in random.sample(list(row), random.choice((1, 1, 2, 3, 5))):
        row[name] = text_like(random, row[name], random.choice(list(row.values())))
    return row


def scalar(random: Random, real: Any = None) -> Any:
    """Return a value of any type that an ad's attribute may have, as its reader gives it."""
    kind = random.randrange(9)
    if kind == 0:
        return None
    if kind == 1:
        return random.choice((True, False))
    if kind < 4:
        return random.choice((0, 1, -1, 2, 3, 7, 255, 1 << 31, 1 << 33, 1 << 36, 1 << 61, (1 << 63) - 1, -(1 << 63)))
    if kind < 6:
        return random.choice((0.0, -0.0, 0.5, -1.5, 1e-300, 1e15, 4e18, 1e19, 1e300, 1.7e308, -1.7e308))
    if isinstance(real, str):
        return text_like(random, real)
    return nasty(random) if real is None or random.randrange(2) else str(real)
