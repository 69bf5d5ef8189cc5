#!/usr/bin/env python3
"""Shows in the machine code how many 16-byte loads of block_copy are in flight before its first store.

    check_loads_in_flight.py CUOBJDUMP CUBIN [KERNEL] [AT_LEAST]

Prints, for each kernel whose name contains KERNEL (block_copy_kernel), the longest run of unpredicated
LDG.E.128 into registers of their own with no store, branch target or use of a loaded register between
them, and fails if one is below AT_LEAST (4).
"""
import re
import subprocess
import sys

LOAD = re.compile(r"LDG\.E\.128\S*\s+(R\d+),")
REGISTER = re.compile(r"\bR(\d+)\b")


def loads_in_flight(lines):
    """The longest run of independent wide loads, and the lines that make it up."""
    best, run, loaded = [], [], set()
    for line in lines:
        code = re.sub(r"/\*.*?\*/", "", line).strip()
        if not code:
            continue
        load = LOAD.search(code)
        if load and not code.startswith("@"):
            first = int(load.group(1)[1:])
            addresses = {int(r) for r in REGISTER.findall(code[load.end():])}
            wanted = set(range(first, first + 4))
            if addresses & loaded or wanted & loaded:
                run, loaded = [], set()
            run.append(line.rstrip())
            loaded |= wanted
            if len(run) > len(best):
                best = list(run)
        elif re.search(r"\b(ST[GSL]?|BRA|BAR|RED|ATOM\w*|EXIT|CALL)\b", code) or \
                {int(r) for r in REGISTER.findall(code)} & loaded:
            run, loaded = [], set()
    return best


def main():
    cuobjdump, cubin = sys.argv[1:3]
    kernel = sys.argv[3] if len(sys.argv) > 3 else "block_copy_kernel"
    at_least = int(sys.argv[4]) if len(sys.argv) > 4 else 4
    sass = subprocess.run([cuobjdump, "-sass", cubin], check=True, capture_output=True, text=True).stdout
    functions = [f for f in re.split(r"\n\s*Function : ", sass)[1:] if kernel in f.split("\n", 1)[0]]
    if not functions:
        sys.exit(f"{cubin} has no kernel named {kernel}")
    failed = False
    for function in functions:
        name, body = function.split("\n", 1)
        run = loads_in_flight(body.splitlines())
        print(f"{name.strip()}: {len(run)} independent 16-byte loads before a store")
        if function is functions[0]:
            print("\n".join(run))
        failed |= len(run) < at_least
    if failed:
        sys.exit(f"fewer than {at_least} loads in flight")


if __name__ == "__main__":
    main()
