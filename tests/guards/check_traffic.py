#!/usr/bin/env python3
"""Checks the kernels' figures against their limits: check_traffic.py FILE [KERNEL...].

FILE is what `./dev bench traffic --json FILE` wrote. Every kernel named (default: all that have limits)
must have at least one case there; every case is held against the limits of its kernel. The limits
hold without a GPU: sectors, coalescing and instructions come from the simulator, registers and spills
from the compiler. bytes_moved are of device memory; host_bytes_moved go over the bus.
"""
import json
import re
import sys

KERNELS = ("block_copy", "logits_cache", "logits_topk", "prefix_match", "index_update", "page_table",
           "batch_dedup")
# prefix_match: bytes and instructions per matched token.
PREFIX_MATCH = {
    "long": (10.5, 33), "mixed": (10.5, 34), "one_1m": (11, 38),
    "mid": (10.5, 41), "chat": (12, 42), "chat_uniform": (12, 42),
    "tiny": (23, 79),
}
# Bytes moved per byte that must be.
PAGE_TABLE = {"decode": 1.45, "prefill": 1.3, "dense": 1.05, "csr": 1.2}
# Bytes per block added or removed: of device memory, over the bus. Written at random, an entry costs a sector;
# a block that is added carries its tokens, of which either is to see one passage. A steady cache adds as
# many as it removes.
INDEX_UPDATE = {"steady": (78, 56), "fill": (108, 102), "drain": (55, 15.5)}
BATCH_DEDUP = {"chat": 6.5, "burst": 5.8, "tiny": 6.7}
NUMBERS = ("bytes_moved", "host_bytes_moved", "bytes_minimal", "traffic_ratio", "coalescing",
           "thread_instructions", "launches", "registers", "spills")


def aligned(case):
    """Cases whose planes are 16-byte aligned with strides that are; the others only count bytes."""
    return not re.search(r"base_[0-9]|stride_[0-9]|scales|656|misaligned|page_1$", case)


def limits(entry):
    """(member, limit, at_least?) of one case."""
    kernel, case = entry["kernel"], entry["case"]
    # prefix_match spills in packs of short prompts and behind collisions, nowhere that a tile passes.
    yield "spills", 424 if kernel == "prefix_match" else 0, False
    if kernel == "block_copy":
        yield "launches", 1, False
        if aligned(case) or "656" in case:
            yield "traffic_ratio", 1.01, False
            yield "coalescing", 0.95 if "656" in case else 0.99, True
    elif kernel == "logits_cache":
        yield "traffic_ratio", 1.01, False
    elif kernel == "logits_topk":  # k = 64 of a vocabulary of 131,072
        yield "instructions_per_element", 30 if case.startswith("random") else 100, False
    elif kernel == "prefix_match":
        yield "launches", 1, False
        if case in PREFIX_MATCH:
            yield "bytes_per_token", PREFIX_MATCH[case][0], False
            yield "instructions_per_token", PREFIX_MATCH[case][1], False
    elif kernel == "page_table":
        yield "traffic_ratio", PAGE_TABLE.get(case, 1.05), False
        if case in ("decode", "prefill"):
            yield "host_bytes_per_delta", 16, False
    elif kernel == "batch_dedup":
        yield "traffic_ratio", BATCH_DEDUP.get(case, 5.8), False
        yield "launches", 6, False
    elif kernel == "index_update":
        device, host = INDEX_UPDATE[case]
        yield "bytes_per_delta", device, False
        yield "host_bytes_per_delta", host, False


def check(entries, kernels):
    errors = []
    for entry in entries:
        name = f"{entry.get('kernel')}/{entry.get('case')}"
        for member in NUMBERS:
            if not isinstance(entry.get(member), (int, float)):
                errors.append(f"{name}: no {member}")
        if any(error.startswith(f"{name}: no ") for error in errors):
            continue
        if entry["bytes_moved"] <= 0 or entry["thread_instructions"] <= 0:
            errors.append(f"{name}: nothing was measured")
        for member, limit, at_least in limits(entry):
            value = entry.get(member)
            if value is None:
                errors.append(f"{name}: no {member}")
            elif value < limit if at_least else value > limit:
                errors.append(f"{name}: {member} is {value:.4g}, the limit is {limit}")
    for kernel in kernels:
        if not any(str(entry.get("kernel")).startswith(kernel) for entry in entries):
            errors.append(f"{kernel}: no case")
    return errors


def main(path, kernels):
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)
    errors = check(entries, kernels or KERNELS)
    print("\n".join(errors))
    print(f"{len(entries)} cases, {len(errors)} beyond their limits")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
