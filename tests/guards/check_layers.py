#!/usr/bin/env python3
"""Checks what the parts of the project may include: check_layers.py ROOT.

Nothing calls upwards (docs/design.md): tokens -> radix_tree -> kv_cache -> step_plan -> executor ->
kernels. Everything left of the executor builds without CUDA, and kernels know raw pointers only.
An include counts as what it reaches, however it is written: beside the file that has it, if there is
such a file or it begins with a dot, else from the root of the project or from include/.
"""
import pathlib
import posixpath
import re
import sys

SOURCES = {".h", ".hh", ".hpp", ".hxx", ".inl", ".inc", ".ipp", ".tcc", ".tpp", ".c", ".cc", ".cpp", ".cxx",
           ".cu", ".cuh"}
PROJECT = r"(csrc|include|radixkv|kernels|tests|bench|examples)/"
# What is neither the project's nor the standard's nor the system's: CUDA, libraries.
FOREIGN = rf"^(?!{PROJECT})(?![a-z_0-9]+$|sys/[a-z]+\.h$|(unistd|immintrin|x86intrin)\.h$)"
# For kernels and what runs them: CUDA as well.
NOT_CUDA = rf"{FOREIGN}(?!cuda|cub/|thrust/|nvtx3?/|cooperative_groups|nv/)"
LOADS = r"^(tests|bench|examples)/"

# (folder, file name pattern, pattern of includes it must not have, why)
RULES = [
    ("csrc/core", r".*", FOREIGN, "the core builds with the standard library alone"),
    ("csrc/host", r".*", FOREIGN, "the host executor builds with the standard library alone"),
    ("include/radixkv", r"(?!cuda_).*", FOREIGN, "only cuda_*.h may need more than the standard library"),
    ("include/radixkv", r"cuda_.*", NOT_CUDA, "public headers need CUDA at most"),
    ("include/radixkv", r".*", r"^(csrc/|kernels/)", "public headers include no internal ones"),
    ("include/radixkv", r"(?!cuda_).*", r"^radixkv/cuda_", "plain headers do not need CUDA's one"),
    ("csrc/core", r".*", r"^(csrc/(?!core/)|kernels/|radixkv/(host|cuda)_)",
     "the core knows nothing above it"),
    ("csrc/host", r".*", r"^(csrc/(?!core/|host/)|kernels/(?!address\.h)|radixkv/cuda_)",
     "the host executor knows neither CUDA nor the program"),
    ("kernels", r"(address|prefix_hash)\.h", FOREIGN, "host code shares these headers"),
    ("kernels", r".*", NOT_CUDA, "kernels need CUDA alone"),
    ("csrc/cuda", r".*", NOT_CUDA, "the library needs CUDA alone"),
    ("csrc/cuda", r".*", r"^csrc/cli/", "libraries know nothing of the program"),
    ("kernels", r".*", r"^(csrc/|radixkv/(?!export))", "kernels see raw pointers only"),
    ("include", r".*", LOADS, "nothing that is installed knows its tests"),
    ("csrc", r".*", LOADS, "nothing that is installed knows its tests"),
    ("kernels", r".*", LOADS, "nothing that is installed knows its tests"),
    ("", r".*", r"^tests/cudasim/", "cudasim's insides are its own"),
]


def reached(root, path, quoted, name):
    """What an include means: a path from the root, public headers as radixkv/..., or as it is written."""
    beside = posixpath.normpath((path.parent.relative_to(root) / name).as_posix())
    if name.startswith(".") or (quoted and (root / beside).exists()):
        name = beside
    return re.sub(r"^include/(?=radixkv/)", "", posixpath.normpath(name))


def includes(root, path):
    """(line, include as written, what it reaches; None where that cannot be read)."""
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = re.match(r"\s*#\s*(include|include_next|import)\b\s*(.*)", line)
        if not match:
            continue
        written = re.match(r'([<"])([^>"]+)[>"]', match.group(2))
        if match.group(1) != "include" or not written:
            yield number, line.strip(), None
        else:
            yield number, written.group(2), reached(root, path, written.group(1) == '"', written.group(2))


def files_of(root, folder):
    top = [root / folder] if folder else [
        root / name for name in ("include", "csrc", "kernels", "tests", "bench", "examples")]
    for start in top:
        for path in sorted(start.rglob("*")) if start.is_dir() else []:
            if path.suffix in SOURCES and "tests/cudasim/" not in path.as_posix():
                yield path


def main(root):
    root = pathlib.Path(root).resolve()
    seen, errors = set(), []
    for folder, names, forbidden, why in RULES:
        for path in files_of(root, folder):
            seen.add(path)
            if not re.fullmatch(names, path.name):
                continue
            for number, name, target in includes(root, path):
                at = f"{path.relative_to(root)}:{number}"
                if target is None:
                    errors.append(f"{at}: {name}: not an #include that can be followed")
                elif re.search(forbidden, target):
                    errors.append(f"{at}: includes {name}: {why}")
    errors = sorted(set(errors))
    print("\n".join(errors))
    print(f"{len(seen)} files, {len(errors)} includes that cross a layer")
    if not seen:
        print(f"no sources under {root}")
    return 1 if errors or not seen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
