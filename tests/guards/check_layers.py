#!/usr/bin/env python3
"""Checks what the parts of the project may include: check_layers.py ROOT.

Nothing calls upwards (docs/design.md): tokens -> radix_tree -> kv_cache -> step_plan -> executor ->
kernels. Everything left of the executor builds without CUDA, and kernels know raw pointers only.
"""
import pathlib
import re
import sys

CUDA = re.compile(r"^(cuda|cub/|thrust/|nvtx|cooperative_groups|nv/)")
SOURCES = {".h", ".hpp", ".cpp", ".cu", ".cuh"}

# (folder, file name pattern, pattern of includes it must not have, why)
RULES = [
    ("csrc/core", r".*", CUDA.pattern, "the core builds without CUDA"),
    ("csrc/host", r".*", CUDA.pattern, "the host executor builds without CUDA"),
    ("include/radixkv", r"(?!cuda_).*", CUDA.pattern, "only cuda_*.h may need CUDA's headers"),
    ("include/radixkv", r".*", r"^(csrc/|kernels/)", "public headers include no internal ones"),
    ("include/radixkv", r"(?!cuda_).*", r"^radixkv/cuda_", "plain headers do not need CUDA's one"),
    ("csrc/core", r".*", r"^(csrc/(host|cuda|cli)/|kernels/|radixkv/(host|cuda)_executor)",
     "the core knows nothing above it"),
    ("csrc/host", r".*", r"^(csrc/(cuda|cli)/|kernels/(?!address\.h)|radixkv/cuda_executor)",
     "the host executor knows neither CUDA nor the program"),
    ("kernels", r"(address|prefix_hash)\.h", CUDA.pattern, "host code shares these headers"),
    ("csrc/cuda", r".*", r"^csrc/cli/", "libraries know nothing of the program"),
    ("kernels", r".*", r"^(csrc/|radixkv/(?!export))", "kernels see raw pointers only"),
    ("", r".*", r"^tests/cudasim/", "cudasim's insides are its own"),
]


def includes(path):
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if match:
            yield number, match.group(1)


def files_of(root, folder):
    top = [root / folder] if folder else [
        root / name for name in ("include", "csrc", "kernels", "tests", "bench", "examples")]
    for start in top:
        for path in sorted(start.rglob("*")) if start.is_dir() else []:
            if path.suffix in SOURCES and "tests/cudasim/" not in path.as_posix():
                yield path


def main(root):
    root = pathlib.Path(root)
    seen, errors = set(), []
    for folder, names, forbidden, why in RULES:
        for path in files_of(root, folder):
            seen.add(path)
            if not re.fullmatch(names, path.name):
                continue
            for number, name in includes(path):
                if re.search(forbidden, name):
                    errors.append(f"{path.relative_to(root)}:{number}: includes {name}: {why}")
    print("\n".join(errors))
    print(f"{len(seen)} files, {len(errors)} includes that cross a layer")
    if not seen:
        print(f"no sources under {root}")
    return 1 if errors or not seen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
