#!/usr/bin/env python3
"""Shows that each check of this folder fires: test_guards.py COMPILER.

Every test plants one defect in a small tree of its own; the same tree without it passes.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
COMPILER = "c++"


def run(script, *arguments):
    done = subprocess.run([sys.executable, str(HERE / script), *map(str, arguments)],
                          capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


class GuardTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def expect(self, passes, script, *arguments, says=""):
        code, output = run(script, *arguments)
        self.assertEqual(code == 0, passes, output)
        self.assertIn(says, output)


class Layers(GuardTest):
    def planted(self, path, include):
        self.write("csrc/core/tree.cpp", "#include <vector>\n")
        self.expect(True, "check_layers.py", self.root)
        self.write(path, f"#include {include}\n")
        self.expect(False, "check_layers.py", self.root, says=f"{path}:1")

    def test_core_with_cuda(self):
        self.planted("csrc/core/pool.cpp", "<cuda_runtime.h>")

    def test_host_with_cub(self):
        self.planted("csrc/host/copy.cpp", "<cub/cub.cuh>")

    def test_core_above(self):
        self.planted("csrc/core/pool.cpp", '"csrc/host/host_executor.h"')

    def test_kernel_with_core(self):
        self.planted("kernels/copy.cu", '"radixkv/kv_cache.h"')

    def test_public_header_with_internal(self):
        self.planted("include/radixkv/kv_cache.h", '"csrc/core/radix_tree.h"')

    def test_cudasim_insides(self):
        self.planted("tests/cuda/test_copy.cu", '"tests/cudasim/src/memory.h"')

    def test_nothing_to_check(self):
        self.expect(False, "check_layers.py", self.root, says="no sources")


class Headers(GuardTest):
    def test_header_that_needs_another(self):
        self.write("include/radixkv/good.h", "#pragma once\n#include <vector>\nstd::vector<int> f();\n")
        self.expect(True, "check_headers.py", self.root, COMPILER, "none", says="1 headers")
        self.write("include/radixkv/bad.h", "#pragma once\nstd::vector<int> g();\n")
        self.expect(False, "check_headers.py", self.root, COMPILER, "none", says="bad.h")

    def test_header_without_guard(self):
        self.write("include/radixkv/twice.h", "struct twice {};\n")
        self.expect(False, "check_headers.py", self.root, COMPILER, "none", says="redefinition")


class Exports(GuardTest):
    def test_public_function_without_export(self):
        self.write("include/radixkv/policy.h", """
            namespace radixkv { struct cache { int f(); }; int make(int); struct internal; }
            """)
        shown = '__attribute__((visibility("default")))'
        source = """
            namespace radixkv {{
            struct internal {{ int f(); }}; struct cache {{ int f(); }};
            int internal::f() {{ return 1; }}
            {} int cache::f() {{ return 2; }}
            {} int make(int) {{ return 3; }}
            }}"""
        for first, second, hidden in ((shown, shown, ""), (shown, "", "radixkv::make"),
                                      ("", shown, "radixkv::cache::f")):
            file = self.write("policy.cpp", source.format(first, second))
            built = file.with_suffix(".o")
            subprocess.run([COMPILER, "-fvisibility=hidden", "-c", str(file), "-o", str(built)],
                           check=True)
            self.expect(not hidden, "check_exports.py", self.root, built,
                        says=f"{hidden} is public" if hidden else "2 public functions")


class Registered(GuardTest):
    def setUp(self):
        super().setUp()
        self.good = self.write("tests/core/test_good.cpp", "TEST(good, works) {}\n")
        self.write("tests/core/CMakeLists.txt", "radixkv_add_test(test_good SOURCES test_good.cpp)\n")
        self.build([self.good])
        self.expect(True, *self.check)

    def build(self, files):
        entries = [{"directory": str(self.root), "file": str(f), "command": ""} for f in files]
        self.write("build/compile_commands.json", json.dumps(entries))
        self.check = ("check_registered.py", self.root, self.root / "build", "cuda")

    def test_source_that_no_target_compiles(self):
        self.write("tests/core/test_forgotten.cpp", "TEST(forgotten, fails) {}\n")
        self.expect(False, *self.check, says="test_forgotten.cpp")

    def test_program_that_never_runs(self):
        self.write("tests/core/CMakeLists.txt", "add_executable(test_good test_good.cpp)\n")
        self.expect(False, *self.check, says="in no add_test")

    def test_disabled(self):
        self.good.write_text("TEST(good, DISABLED_works) {}\n")
        self.expect(False, *self.check, says="switched off")

    def test_benchmark(self):
        self.write("bench/host/lost.cpp", "int main() {}\n")
        self.expect(False, *self.check, says="lost.cpp")


class Traffic(GuardTest):
    def entry(self, **changes):
        good = {"kernel": "block_copy", "case": "nhd_full", "bytes_moved": 100, "host_bytes_moved": 0,
                "bytes_minimal": 100, "traffic_ratio": 1.0, "coalescing": 1.0,
                "thread_instructions": 10, "launches": 1, "registers": 40, "spills": 0}
        return {**good, **changes}

    def checked(self, passes, *entries, says=""):
        file = self.write("traffic.json", json.dumps(entries))
        kernels = sorted({entry["kernel"] for entry in entries}) or ["block_copy"]
        self.expect(passes, "check_traffic.py", file, *kernels, says=says)

    def test_good(self):
        self.checked(True, self.entry())

    def test_limits(self):
        self.checked(False, self.entry(coalescing=0.98), says="coalescing is 0.98")
        self.checked(True, self.entry(coalescing=0.98, case="mla_656_full"))
        self.checked(False, self.entry(coalescing=0.9, case="mla_656_full"), says="coalescing")
        self.checked(False, self.entry(traffic_ratio=1.02), says="traffic_ratio")
        self.checked(False, self.entry(spills=8), says="spills")
        self.checked(False, self.entry(launches=2), says="launches")
        self.checked(False, self.entry(kernel="logits_cache", case="bf16", traffic_ratio=1.5),
                     says="traffic_ratio")
        match = {"kernel": "prefix_match", "case": "long", "instructions_per_token": 33}
        self.checked(True, self.entry(bytes_per_token=10.5, **match))
        self.checked(False, self.entry(bytes_per_token=10.6, **match), says="bytes_per_token is 10.6")
        self.checked(False, self.entry(**match), says="no bytes_per_token")
        self.checked(True, self.entry(bytes_per_token=10.5, **{**match, "spills": 424}))
        self.checked(False, self.entry(bytes_per_token=10.5, **{**match, "spills": 428}),
                     says="spills is 428")
        for case, device, host in (("steady", 78, 56), ("fill", 108, 102), ("drain", 55, 15.5)):
            update = {"kernel": "index_update", "case": case}
            self.checked(True, self.entry(bytes_per_delta=device, host_bytes_per_delta=host, **update))
            self.checked(False, self.entry(bytes_per_delta=device + 1, host_bytes_per_delta=host, **update),
                         says=f"{case}: bytes_per_delta")
            self.checked(False, self.entry(bytes_per_delta=device, host_bytes_per_delta=host + 1, **update),
                         says="host_bytes_per_delta")

    def test_limits_of_tables_and_deduplication(self):
        self.checked(True, self.entry(kernel="page_table", case="dense", traffic_ratio=1.05))
        self.checked(False, self.entry(kernel="page_table", case="dense", traffic_ratio=1.06),
                     says="traffic_ratio")
        self.checked(False, self.entry(kernel="page_table", case="decode", host_bytes_per_delta=64),
                     says="host_bytes_per_delta is 64")
        dedup = {"kernel": "batch_dedup", "case": "chat", "launches": 6}
        self.checked(True, self.entry(**{**dedup, "traffic_ratio": 6.5}))
        self.checked(False, self.entry(**{**dedup, "traffic_ratio": 6.6}), says="traffic_ratio")
        self.checked(False, self.entry(**{**dedup, "launches": 7}), says="launches")
        self.checked(False, self.entry(**{**dedup, "spills": 4}), says="spills")

    def test_missing(self):
        self.checked(False, says="no case")
        self.checked(False, self.entry(registers=None), says="no registers")
        self.checked(False, self.entry(bytes_moved=0), says="nothing was measured")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        COMPILER = sys.argv.pop(1)
    unittest.main()
