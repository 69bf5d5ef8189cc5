#!/usr/bin/env python3
"""Checks that a sanitizer build sanitised its libraries: check_sanitized.py SANITIZERS ARCHIVE...

SANITIZERS is RADIXKV_SANITIZE: address, undefined, thread, by commas. Objects compiled with address or
thread name that runtime whatever is in them; with undefined only those that check something, so of
these there must be some in every archive.
"""
import re
import subprocess
import sys

EVERY_OBJECT = {"address": "__asan_init", "thread": "__tsan_init"}
SOME_OBJECT = {"undefined": "__ubsan_handle_"}


def symbols_by_object(archive):
    """[(object, text of its symbols)] of an archive, or of one object."""
    text = subprocess.run(["nm", archive], capture_output=True, text=True, check=True).stdout
    objects, name = [], archive
    for line in text.splitlines():
        member = re.fullmatch(r"(\S+\.o):", line)
        if member:
            objects.append([member.group(1), ""])
        elif line.strip():
            if not objects:
                objects.append([name, ""])
            objects[-1][1] += line + "\n"
    return objects


def main(sanitizers, archives):
    errors, count = [], 0
    for archive in archives:
        objects = symbols_by_object(archive)
        count += len(objects)
        if not objects:
            errors.append(f"{archive}: holds no object")
        for sanitizer in sanitizers.split(","):
            if sanitizer in EVERY_OBJECT:
                for name, symbols in objects:
                    if EVERY_OBJECT[sanitizer] not in symbols:
                        errors.append(f"{archive}: {name} was built without -fsanitize={sanitizer}")
            elif sanitizer in SOME_OBJECT:
                if not any(SOME_OBJECT[sanitizer] in symbols for _, symbols in objects):
                    errors.append(f"{archive}: nothing was built with -fsanitize={sanitizer}")
            else:
                errors.append(f"no check for the sanitizer '{sanitizer}'")
    print("\n".join(errors))
    print(f"{count} objects, {len(errors)} errors")
    return 1 if errors or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
