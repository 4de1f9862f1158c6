"""Fuzzing of the parsers for as long as one likes; what breaks one is kept in the corpus.

Invariant: every input that is kept made a parser do what no caller expects, and is small. With
atheris installed (``pip install atheris``), ``--coverage NAME`` lets it search by coverage.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "corpus"
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)


def mutate(data: bytes, choose: random.Random) -> bytes:
    """One to four changes of the kinds that parsers trip over."""
    changed = bytearray(data)
    for _ in range(choose.randint(1, 4)):
        at = choose.randrange(len(changed) + 1)
        kind = choose.randrange(6)
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << choose.randrange(8)
        elif kind == 1:
            changed[at:at] = choose.randbytes(choose.randint(1, 9))
        elif kind == 2:
            del changed[at : at + choose.randint(1, 40)]
        elif kind == 3:
            number = struct.pack("<Q", choose.choice(_NUMBERS))[: choose.choice((1, 2, 4, 8))]
            changed[at : at + len(number)] = number
        elif kind == 4:
            start = choose.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + choose.randint(1, 200)]
        else:
            changed = changed[:at]
    return bytes(changed)


def main() -> None:
    from tests.fuzz.targets import TARGETS, survive

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--coverage", choices=sorted(TARGETS), help="use atheris on this parser")
    parser.add_argument("--dir", type=Path, default=CORPUS, help="where to keep what breaks")
    given = parser.parse_args()
    if given.coverage:
        _coverage(given.coverage, given.seconds)
        return
    choose, broken = random.Random(given.seed), 0
    runs = dict.fromkeys(TARGETS, 0)
    slowest = dict.fromkeys(TARGETS, 0.0)
    good = {name: make() for name, (_, make) in TARGETS.items()}
    until = time.monotonic() + given.seconds
    while time.monotonic() < until:
        name = choose.choice(list(TARGETS))
        data = mutate(good[name], choose)
        start = time.perf_counter()
        try:
            survive(name, data)
        except Exception as error:
            broken += 1
            given.dir.mkdir(exist_ok=True)
            (given.dir / f"{name}-{choose.randrange(1 << 32):08x}").write_bytes(data)
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        runs[name] += 1
        slowest[name] = max(slowest[name], time.perf_counter() - start)
    for name in TARGETS:
        print(f"{name}: {runs[name]:,} inputs, slowest {slowest[name] * 1000:.0f} ms")
    sys.exit(1 if broken else 0)


def _coverage(name: str, seconds: float) -> None:
    import atheris

    with atheris.instrument_imports():
        from tests.fuzz.targets import survive

    atheris.Setup(
        [sys.argv[0], f"-max_total_time={int(seconds)}"], lambda data: survive(name, data)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
