#!/usr/bin/env python3
"""Writes the seed corpus of fuzz_cache: make_cache_corpus.py FOLDER.

An input is a stream of choices, so any bytes are a valid history; these differ in length and in how
often they choose small numbers (few operations of few kinds) or any."""
import pathlib
import random
import sys


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pools = ("tiny", "mixed", "wide", "tiny_watched", "mixed_watched", "wide_watched")
    for pool, name in enumerate(pools):
        for size in (64, 512, 2048):
            for most in (16, 256):
                source = random.Random(f"{name} {size} {most}")
                choices = bytes(source.randrange(most) for _ in range(size))
                (folder / f"{name}_{size}_below_{most}").write_bytes(bytes([pool]) + choices)


if __name__ == "__main__":
    main(sys.argv[1])
