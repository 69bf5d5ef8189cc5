#!/usr/bin/env python3
"""Checks that every test and benchmark source is built and registered:
check_registered.py ROOT BUILD_DIR cuda|no_cuda CTEST.

1. Every source in tests/ (but cudasim and install, which are projects of their own) is compiled in
   this build, and what it is compiled into is linked, by way of libraries perhaps, into a program that
   stands in the command of a test, or into a module whose path was compiled into such a program:
   compile_commands.json, build.ninja and `CTEST --show-only` say so.
   Without CUDA, tests/cuda and .cu files are let off.
2. Every source in bench/ is named, or matched by a file(GLOB), in the CMakeLists.txt of its folder
   (this build may leave bench out).
3. Every program of tests/ goes through radixkv_add_test or radixkv_add_fuzz_test, or its
   CMakeLists.txt hands it to a test: nothing is built and never run.
4. No test is switched off, in its source or by a property, and only planted defects will fail.
"""
import fnmatch
import json
import pathlib
import re
import subprocess
import sys

SOURCES = {".cpp", ".cc", ".cxx", ".cu"}
# Of tests and suites, typed, parametrised or not.
SWITCHED_OFF = re.compile(r"\bDISABLED_\w*")


def sources(folder, leave_out=()):
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        relative = path.relative_to(folder).as_posix()
        if path.suffix in SOURCES and not relative.startswith(tuple(leave_out)):
            yield path


def objects_of(build):
    """The objects that each source is compiled to, and the command of each object."""
    found, commands = {}, {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = (pathlib.Path(entry["directory"]) / entry["file"]).resolve()
        output = entry.get("output") or re.search(r"\s-o\s+(\S+)", entry["command"]).group(1)
        found.setdefault(source, set()).add(output)
        commands[output] = entry["command"]
    return found, commands


def inputs_by_output(build):
    """What each file is linked or archived from, by build.ninja; order-only inputs do not count."""
    links = {}
    for line in (build / "build.ninja").read_text().splitlines():
        match = re.match(r"build ([^:]+): \w*(?:LINKER|LIBRARY)\w* (.*)", line)
        if match:
            inputs = re.split(r"\s\|\|", match.group(2))[0]
            for output in match.group(1).replace("|", " ").split():
                links[output] = inputs.replace("|", " ").split()
    return links


def tests_of(build, ctest):
    shown = subprocess.run([ctest, "--show-only=json-v1"], cwd=build, capture_output=True, text=True,
                           check=True).stdout
    return json.loads(shown)["tests"]


def linked_into_tests(build, tests, commands):
    """Every object and library that is in a program of some test's command, or is loaded by one."""
    links, reached = inputs_by_output(build), set()
    waiting = [word for test in tests for word in test.get("command", [])]
    prefix = f"{build}/"
    while waiting:
        name = waiting.pop()
        name = name[len(prefix):] if name.startswith(prefix) else name
        if name not in reached and (name in links or name.endswith(".o")):
            reached.add(name)
            waiting += links.get(name, [])
            waiting += re.findall(rf'{re.escape(prefix)}[^\s"\\]+', commands.get(name, ""))
    return reached


def named(name, text):
    """Whether a CMakeLists.txt names the file, itself or by a pattern of file(GLOB)."""
    patterns = [token.rsplit("/", 1)[-1] for token in re.findall(r"[^\s()]*\*[^\s()]*", text)]
    return name in text or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def property_errors(tests):
    for test in tests:
        on = {p["name"] for p in test.get("properties", []) if p["value"] is True}
        if "DISABLED" in on:
            yield f"{test['name']}: the test is switched off (DISABLED)"
        if "WILL_FAIL" in on and not re.match(r"(guard\.)?planted_", test["name"]):
            yield f"{test['name']}: the test may fail (WILL_FAIL)"


def main(root, build, cuda, ctest):
    root, build = pathlib.Path(root).resolve(), pathlib.Path(build).resolve()
    errors, count = [], 0
    (objects, commands), tests = objects_of(build), tests_of(build, ctest)
    linked = linked_into_tests(build, tests, commands)
    errors += property_errors(tests)

    for path in sources(root / "tests", ("cudasim/", "install/")):
        count += 1
        relative = path.relative_to(root).as_posix()
        if cuda == "no_cuda" and (path.suffix == ".cu" or path.stem.endswith("_cuda") or
                                  "_cuda_" in path.stem or relative.startswith(
                                      ("tests/cuda/", "tests/guards/planted/"))):
            continue
        if relative == "tests/support/run_corpus.cpp" and not (root / "tests/fuzz").exists():
            continue  # the main program of radixkv_add_fuzz_test
        built = objects.get(path.resolve(), set())
        if not built:
            errors.append(f"{relative}: no target compiles it")
        elif not built & linked:
            errors.append(f"{relative}: in no program that a test runs")
        if SWITCHED_OFF.search(path.read_text()):
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
    sys.exit(main(*sys.argv[1:5]))
