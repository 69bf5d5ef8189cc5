#!/usr/bin/env python3
"""Checks that every test and benchmark source is built and registered:
check_registered.py ROOT BUILD_DIR cuda|no_cuda.

1. Every source in tests/ (but cudasim and install, which are projects of their own) is compiled in
   this build: it stands in compile_commands.json. Without CUDA, tests/cuda and .cu files are let off.
2. Every source in bench/ is named, or matched by a file(GLOB), in the CMakeLists.txt of its folder
   (this build may leave bench out).
3. Every program of tests/ goes through radixkv_add_test or radixkv_add_fuzz_test, or its
   CMakeLists.txt hands it to a test: nothing is built and never run.
4. No test is switched off in its source.
"""
import fnmatch
import json
import pathlib
import re
import sys

SOURCES = {".cpp", ".cu"}


def sources(folder, leave_out=()):
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        relative = path.relative_to(folder).as_posix()
        if path.suffix in SOURCES and not relative.startswith(tuple(leave_out)):
            yield path


def built_sources(build):
    entries = json.loads((build / "compile_commands.json").read_text())
    return {(pathlib.Path(e["directory"]) / e["file"]).resolve() for e in entries}


def named(name, text):
    """Whether a CMakeLists.txt names the file, itself or by a pattern of file(GLOB)."""
    patterns = [token.rsplit("/", 1)[-1] for token in re.findall(r"[^\s()]*\*[^\s()]*", text)]
    return name in text or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def main(root, build, cuda):
    root, build = pathlib.Path(root).resolve(), pathlib.Path(build)
    errors, count = [], 0
    built = built_sources(build)

    for path in sources(root / "tests", ("cudasim/", "install/")):
        count += 1
        relative = path.relative_to(root).as_posix()
        if cuda == "no_cuda" and (path.suffix == ".cu" or path.stem.endswith("_cuda") or
                                  "_cuda_" in path.stem or relative.startswith(
                                      ("tests/cuda/", "tests/guards/planted/"))):
            continue
        if relative == "tests/support/run_corpus.cpp" and not (root / "tests/fuzz").exists():
            continue  # the main program of radixkv_add_fuzz_test
        if path.resolve() not in built:
            errors.append(f"{relative}: no target compiles it")
        if re.search(r"^\s*TEST(_F|_P)?\s*\([^)]*\bDISABLED_", path.read_text(), re.M):
            errors.append(f"{relative}: a test is switched off (DISABLED_)")

    for path in sources(root / "bench"):
        count += 1
        lists = path.parent / "CMakeLists.txt"
        if not lists.exists() or not named(path.name, lists.read_text()):
            errors.append(f"{path.relative_to(root)}: not named in its CMakeLists.txt")

    for lists in sorted((root / "tests").rglob("CMakeLists.txt")):
        relative = lists.relative_to(root).as_posix()
        if relative.startswith(("tests/cudasim/", "tests/install/")):
            continue
        text = lists.read_text()
        for name in re.findall(r"\badd_executable\(\s*(\S+)", text):
            quoted = re.escape(name)
            if not re.search(rf"add_test\([^)]*{quoted}\b|TARGET_FILE:{quoted}>", text):
                errors.append(f"{relative}: {name} is built but is in no add_test")

    print("\n".join(errors))
    print(f"{count} test and benchmark sources, {len(errors)} errors")
    if not count:
        print(f"no test sources under {root}")
    return 1 if errors or not count else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
