#!/usr/bin/env python3
"""Runs every host benchmark at a small size and checks what it writes: check_smoke.py PROGRAM FILE.

No figure is checked: sizes are small, builds may be slow, machines busy. What must hold is that every
case runs, finds what it expects in the cache, and reports a number under its name.
"""
import json
import math
import subprocess
import sys

CASES = [
    "match_32k_vs_memcmp", "match_128k_vs_memcmp", "match_2k_vs_memcmp",
    "match_32k_split512_vs_memcmp", "match_bushy_ns_per_token", "match_bushy_batch_ns_per_token",
    "commit_after_31k_vs_1k", "evict_bulk_ns_per_block", "evict_single_ns", "split_ns",
    "fanout_1m_vs_1", "index_bytes_per_token", "index_bytes_per_token_bushy",
    "index_bytes_after_churn", "readers_2_vs_1", "readers_under_writer",
    "match_p999_vs_p50_under_writer", "scale_100m",
]


def main(program, path):
    subprocess.run([program, "--scale", "small", "--json", path], check=True)
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)
    names = [entry["case"] for entry in entries]
    assert names == CASES, f"cases are {names}"
    for entry in entries:
        for member in ("value", "limit"):
            number = entry[member]
            assert isinstance(number, (int, float)) and math.isfinite(number) and number > 0, entry
        assert isinstance(entry["unit"], str) and entry["unit"], entry
    wrong = subprocess.run([program, "--filter", "no_such_case"], capture_output=True, text=True)
    assert wrong.returncode != 0 and "no_such_case" in wrong.stderr, wrong
    started = subprocess.run([program, "--json", "/no/such/folder/x"], capture_output=True, text=True, timeout=30)
    assert started.returncode == 1 and "cannot write /no/such/folder/x" in started.stderr, started
    assert started.stdout == "", "a case ran whose figures nobody would get"
    print(f"{len(entries)} cases ran")


if __name__ == "__main__":
    main(*sys.argv[1:])
