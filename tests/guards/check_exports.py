#!/usr/bin/env python3
"""Finds public functions that a shared library would hide: check_exports.py ROOT ARCHIVE...

The archives are compiled with hidden visibility, as the objects of a shared library are. A public
function without RADIXKV_EXPORT links statically and fails in whoever uses the shared library.
"""
import pathlib
import re
import subprocess
import sys

SYMBOL = re.compile(r"\bFUNC\s+GLOBAL\s+(\w+)\s+\d+ (radixkv::(?:\w+::)*~?(?:operator[^(]+|\w+))(?:\[abi:\w+\])?\(")


def main(root, *archives):
    headers = "".join(h.read_text() for h in (pathlib.Path(root) / "include").glob("**/*.h"))

    def is_public(name):
        first = re.escape(name.split("::")[1])
        kind = "(?:class|struct)" if name.count("::") > 1 else None
        pattern = rf"\b{kind} (?:\w+ )?{first}\b[^;{{(]*{{" if kind else rf"\b{first}\("
        return re.search(pattern, headers) is not None

    visible, hidden = set(), set()
    for archive in archives:
        listed = subprocess.run(["readelf", "--wide", "--symbols", "--demangle", archive],
                                capture_output=True, text=True, check=True).stdout
        for visibility, name in SYMBOL.findall(listed):
            if not name.startswith("radixkv::detail::") and is_public(name):
                (visible if visibility == "DEFAULT" else hidden).add(name)
    for name in sorted(hidden):
        print(f"{name} is public, but not marked RADIXKV_EXPORT")
    print(f"{len(visible)} public functions are exported, {len(hidden)} are hidden")
    return 1 if hidden or not visible else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
