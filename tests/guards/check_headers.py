#!/usr/bin/env python3
"""Compiles every public header alone: check_headers.py ROOT COMPILER CUDA_INCLUDE_DIR|none.

A header that forgets an include of its own builds in the library and fails in whoever embeds it.
"""
import pathlib
import subprocess
import sys
import tempfile


def main(root, compiler, cuda):
    headers = sorted((pathlib.Path(root) / "include" / "radixkv").glob("**/*.h"))
    failed = compiled = 0
    for header in headers:
        needs_cuda = header.name.startswith("cuda_")
        if needs_cuda and cuda == "none":
            print(f"{header.name}: left out, no CUDA")
            continue
        name = header.relative_to(pathlib.Path(root) / "include").as_posix()
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "alone.cpp"
            # Twice: the include guard is part of the check.
            source.write_text(f'#include "{name}"\n#include "{name}"\n')
            command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
                       f"-I{root}/include"]
            if needs_cuda:
                command += ["-isystem", cuda]
            run = subprocess.run(command + [str(source)], capture_output=True, text=True)
        compiled += 1
        if run.returncode:
            failed += 1
            print(f"{name} does not compile alone:\n{run.stderr}")
    print(f"{compiled} headers, {failed} failed")
    return 1 if failed or not compiled else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
