#!/usr/bin/env python3
"""Checks the kernels' figures against their limits: check_traffic.py FILE [KERNEL...].

FILE is what `./dev bench traffic --json FILE` wrote. Of every kernel named (default: all) the cases known
here must be there, and no others, and every case is held against its limits. The limits
hold without a GPU: sectors, coalescing and instructions come from the simulator, registers and spills
from the compiler. bytes_moved are of device memory; host_bytes_moved go over the bus.
"""
import json
import math
import re
import sys

TYPES = ("fp32", "fp16", "bf16")
CASES = {
    "block_copy": {"nhd_full", "nhd_first_n", "hnd_full", "hnd_first_n", "mla_656_full", "mla_656_first_n",
                   "mla_656_page_64", "mla_1152_full", "one_block_160_planes", "one_block_900_planes",
                   "one_head_full", "page_1", "scales_hnd", "nhd_base_16", "nhd_base_8", "nhd_base_1",
                   "nhd_stride_16", "nhd_stride_4", "nhd_stride_1"},
    "logits_cache": {f"{what}_{a}_{b}" for what in ("scatter", "gather_odd") for a in TYPES for b in TYPES},
    "logits_topk": {"random", "random_300_rows", "ascending", "descending", "constant", "all_nan", "steps",
                    "steps_descending_within"},
    "prefix_match": {"long", "mixed", "one_1m", "mid", "chat", "chat_uniform", "tiny"},
    "index_update": {"steady", "fill", "drain"},
    "page_table": {"decode", "prefill", "dense", "csr"},
    "batch_dedup": {"chat", "burst", "tiny"},
}
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
# Members of every case, and the least that one has which was measured.
NUMBERS = {"bytes_moved": 1, "host_bytes_moved": 0, "bytes_minimal": 1, "traffic_ratio": 0, "coalescing": 0,
           "thread_instructions": 1, "launches": 1, "registers": 1, "spills": 0}
LIMITS_BY_PARTS_OF_NAMES = ("block_copy", "logits_cache", "logits_topk")


def aligned(case):
    """Cases whose planes are 16-byte aligned with strides that are; the others only count bytes."""
    return not re.search(r"base_[0-9]|stride_[0-9]|scales|656|misaligned|page_1$", case)


def limits(entry):
    """(member, limit, at_least?) of one case."""
    kernel, case = entry["kernel"], entry["case"]
    # prefix_match spills in packs of short prompts and behind collisions, nowhere that a tile passes.
    yield "spills", 440 if kernel == "prefix_match" else 0, False
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
        yield "bytes_per_token", PREFIX_MATCH[case][0], False
        yield "instructions_per_token", PREFIX_MATCH[case][1], False
    elif kernel == "page_table":
        yield "traffic_ratio", PAGE_TABLE[case], False
        if case in ("decode", "prefill"):
            yield "host_bytes_per_delta", 16, False
    elif kernel == "batch_dedup":
        yield "traffic_ratio", BATCH_DEDUP[case], False
        yield "launches", 6, False
    elif kernel == "index_update":
        device, host = INDEX_UPDATE[case]
        yield "bytes_per_delta", device, False
        yield "host_bytes_per_delta", host, False


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_case(entry):
    for member, least in NUMBERS.items():
        value = entry.get(member)
        if not is_number(value):
            yield f"no {member}"
        elif value < least:
            yield f"{member} is {value:.4g}, nothing was measured"
    if entry.get("kernel") not in CASES:
        yield "a kernel without limits"
        return
    if entry.get("case") not in CASES[entry["kernel"]]:
        yield "a case that is not known"
        if entry["kernel"] not in LIMITS_BY_PARTS_OF_NAMES:
            return
    for member, limit, at_least in limits(entry):
        value = entry.get(member)
        if not is_number(value):
            yield f"no {member}"
        elif value < limit if at_least else value > limit:
            yield f"{member} is {value:.4g}, the limit is {limit}"


def check(entries, kernels):
    errors = [f"{entry.get('kernel')}/{entry.get('case')}: {error}"
              for entry in entries for error in check_case(entry)]
    for kernel in kernels:
        if kernel not in CASES:
            errors.append(f"{kernel}: a kernel without limits")
            continue
        measured = [entry.get("case") for entry in entries if entry.get("kernel") == kernel]
        errors += [f"{kernel}/{case}: not measured" for case in sorted(CASES[kernel] - set(measured))]
        errors += [f"{kernel}/{case}: there {measured.count(case)} times" for case in sorted(set(map(str, measured)))
                   if measured.count(case) > 1]
    return errors


def main(path, kernels):
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)
    errors = check(entries, kernels or CASES)
    print("\n".join(errors))
    print(f"{len(entries)} cases, {len(errors)} beyond their limits")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
