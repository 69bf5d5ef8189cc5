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

import check_traffic

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

    def test_ways_to_write_an_include(self):
        for name in ("include/radixkv/cuda_index.h", "csrc/host/host_memory.h", "kernels/address.h",
                     "csrc/core/tree.h", "tests/support/model.h", "tests/cudasim/src/memory.h"):
            self.write(name, "")
        for path, include in (
                ("csrc/core/a.cpp", '"../host/host_memory.h"'), ("csrc/core/b.cpp", '"../../kernels/address.h"'),
                ("csrc/core/c.cpp", '"radixkv/cuda_index.h"'), ("csrc/core/d.cpp", '"radixkv/host_memory.h"'),
                ("csrc/core/e.cpp", '"tests/support/model.h"'), ("csrc/core/f.cpp", '"bench/host/load.h"'),
                ("csrc/core/g.cpp", "<nlohmann/json.hpp>"), ("csrc/core/h.cpp", "<driver_types.h>"),
                ("csrc/core/i.cpp", "<vector_types.h>"), ("csrc/core/j.inl", "<cuda_runtime.h>"),
                ("csrc/core/k.hpp", '"./../host/host_memory.h"'), ("csrc/core/sub/l.cc", '"../../cli/trace.h"'),
                ("csrc/core/m.cpp", '"../../include/radixkv/cuda_index.h"'), ("csrc/core/n.cpp", "HEADER"),
                ("csrc/host/o.cpp", '"radixkv/cuda_index_feed.h"'), ("csrc/host/p.cpp", "<CLI/CLI.hpp>"),
                ("tests/cuda/q.cpp", '"../../tests/cudasim/src/memory.h"'),
                ("tests/r.cpp", '"cudasim/src/memory.h"'), ("kernels/s.cu", "<nlohmann/json.hpp>"),
                ("kernels/t.cu", '"tests/support/model.h"'), ("csrc/cuda/u.cpp", '"bench/kernels/load.h"'),
                ("include/radixkv/v.h", '"../../csrc/core/tree.h"'), ("include/radixkv/w.h", "<cuda_fp16.h>"),
                ("include/radixkv/cuda_x.h", "<nlohmann/json.hpp>")):
            self.planted(path, include)
            (self.root / path).unlink()
        for directive in ("#include_next <vector>", "#import <vector>"):
            self.write("csrc/core/y.cpp", directive + "\n")
            self.expect(False, "check_layers.py", self.root, says="csrc/core/y.cpp:1")

    def test_allowed(self):
        for path, include in (
                ("csrc/core/a.cpp", "<sys/mman.h>"), ("csrc/core/b.cpp", '"csrc/core/tree.h"'),
                ("csrc/host/c.cpp", '"kernels/address.h"'), ("csrc/cli/d.cpp", "<nlohmann/json.hpp>"),
                ("csrc/cuda/e.cpp", "<nvtx3/nvToolsExt.h>"), ("kernels/f.cu", "<cub/cub.cuh>"),
                ("include/radixkv/cuda_g.h", "<cuda_runtime_api.h>"), ("tests/core/h.cpp", '"csrc/core/tree.h"')):
            self.write(path, f"#include {include}\n")
            self.expect(True, "check_layers.py", self.root)

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


class Sanitized(GuardTest):
    def archive(self, **flags):
        objects = []
        for name, options in flags.items():
            source = self.write(f"{name}.cpp", f"int {name}(int* p) {{ return p[0] + p[1]; }}\n")
            objects.append(str(source.with_suffix(".o")))
            subprocess.run([COMPILER, "-c", *options, str(source), "-o", objects[-1]], check=True)
        archive = self.root / "lib.a"
        archive.unlink(missing_ok=True)
        subprocess.run(["ar", "rcs", str(archive), *objects], check=True)
        return archive

    def test_library_or_file_without(self):
        for sanitizer in ("address", "thread", "undefined"):
            on = f"-fsanitize={sanitizer}"
            script = ("check_sanitized.py", sanitizer)
            self.expect(True, *script, self.archive(a=[on], b=[on]))
            self.expect(False, *script, self.archive(a=[on, "-fno-sanitize=all"], b=[on, "-fno-sanitize=all"]),
                        says="built with")
            if sanitizer != "undefined":
                self.expect(False, *script, self.archive(a=[on], b=[]), says="b.o was built without")

    def test_one_of_two_sanitizers(self):
        both = self.archive(a=["-fsanitize=address,undefined"])
        self.expect(True, "check_sanitized.py", "address,undefined", both)
        one = self.archive(a=["-fsanitize=address"])
        self.expect(False, "check_sanitized.py", "address,undefined", one, says="-fsanitize=undefined")

    def test_nothing_to_check(self):
        self.expect(False, "check_sanitized.py", "address", self.archive(), says="holds no object")
        self.expect(False, "check_sanitized.py", "memory", self.archive(a=[]), says="no check")


class Registered(GuardTest):
    def setUp(self):
        super().setUp()
        self.good = self.write("tests/core/test_good.cpp", "TEST(good, works) {}\n")
        self.write("tests/core/CMakeLists.txt", "radixkv_add_test(test_good SOURCES test_good.cpp)\n")
        self.build([self.good])
        self.expect(True, *self.check)

    def build(self, files, links="build test_good: CXX_EXECUTABLE_LINKER__test_good test_good.cpp.o | lib.a || x",
              properties=(), name="test_good", options=""):
        build = self.root / "build"
        entries = [{"directory": str(build), "file": str(f), "command": f"c++ {options} -o {f.name}.o -c {f}"}
                   for f in files]
        self.write("build/compile_commands.json", json.dumps(entries))
        self.write("build/build.ninja", links + "\n")
        tests = [{"name": name, "command": [f"{build.resolve()}/test_good", "--flag"],
                  "properties": [{"name": p, "value": True} for p in properties]}]
        self.write("build/tests.json", json.dumps({"tests": tests}))
        ctest = self.write("ctest", "#!/bin/sh\ncat tests.json\n")
        ctest.chmod(0o755)
        self.check = ("check_registered.py", self.root, build, "cuda", ctest)

    def test_source_that_no_program_holds(self):
        extra = self.write("tests/core/test_extra.cpp", "TEST(extra, fails) {}\n")
        good = "build test_good: CXX_EXECUTABLE_LINKER__x test_good.cpp.o"
        self.build([self.good, extra], f"{good}\nbuild test_extra: CXX_EXECUTABLE_LINKER__y test_extra.cpp.o")
        self.expect(False, *self.check, says="test_extra.cpp: in no program that a test runs")
        self.build([self.good, extra], f"{good} || test_extra.cpp.o")  # an object library that nobody links
        self.expect(False, *self.check, says="test_extra.cpp: in no program that a test runs")
        for linked in (f"{good} test_extra.cpp.o",
                       f"{good} | lib.a\nbuild lib.a: CXX_STATIC_LIBRARY_LINKER__z test_extra.cpp.o"):
            self.build([self.good, extra], linked)
            self.expect(True, *self.check)
        loaded = f"{good}\nbuild extra.so: CXX_MODULE_LIBRARY_LINKER__z test_extra.cpp.o"
        self.build([self.good, extra], loaded)
        self.expect(False, *self.check, says="test_extra.cpp: in no program that a test runs")
        self.build([self.good, extra], loaded, options=f'-DX=\\"{(self.root / "build").resolve()}/extra.so\\"')
        self.expect(True, *self.check)

    def test_sources_of_other_names(self):
        for suffix in (".cc", ".cxx"):
            lost = self.write(f"tests/core/test_lost{suffix}", "TEST(lost, fails) {}\n")
            self.expect(False, *self.check, says=f"test_lost{suffix}: no target compiles it")
            lost.unlink()

    def test_properties(self):
        for name in ("DISABLED", "WILL_FAIL"):
            self.build([self.good], properties=[name])
            self.expect(False, *self.check, says=f"test_good: the test")
        self.build([self.good], properties=["WILL_FAIL"], name="planted_empty_suite")
        self.expect(True, *self.check)

    def test_source_that_no_target_compiles(self):
        self.write("tests/core/test_forgotten.cpp", "TEST(forgotten, fails) {}\n")
        self.expect(False, *self.check, says="test_forgotten.cpp")

    def test_program_that_never_runs(self):
        self.write("tests/core/CMakeLists.txt", "add_executable(test_good test_good.cpp)\n")
        self.expect(False, *self.check, says="in no add_test")

    def test_disabled(self):
        for text in ("TEST(good, DISABLED_works) {}", "TEST_P(DISABLED_good, works) {}",
                     "TYPED_TEST(good, DISABLED_works) {}", "TEST_F(good,\n  DISABLED_works) {}",
                     "INSTANTIATE_TEST_SUITE_P(DISABLED_all, good, Values(1));"):
            self.good.write_text(text + "\n")
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

    def others(self, kernel, but):
        """All cases of a kernel but one, far within their limits."""
        small = {name: 1 for name in ("bytes_per_token", "instructions_per_token", "instructions_per_element",
                                      "bytes_per_delta", "host_bytes_per_delta")}
        return [self.entry(kernel=kernel, case=case, **small)
                for case in sorted(check_traffic.CASES[kernel]) if case != but]

    def checked(self, passes, *entries, says=""):
        """The entries, and what else belongs to their kernels."""
        all_of = list(entries)
        for kernel in {entry["kernel"] for entry in entries}:
            all_of += self.others(kernel, [e["case"] for e in entries if e["kernel"] == kernel][0])
        file = self.write("traffic.json", json.dumps(all_of))
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
        self.checked(True, self.entry(bytes_per_token=10.5, **{**match, "spills": 440}))
        self.checked(False, self.entry(bytes_per_token=10.5, **{**match, "spills": 444}),
                     says="spills is 444")
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
        self.checked(False, says="block_copy/nhd_full: not measured")
        self.checked(False, self.entry(registers=None), says="no registers")
        self.checked(False, self.entry(bytes_moved=0), says="nothing was measured")
        for member in ("traffic_ratio", "coalescing"):
            self.checked(False, self.entry(**{member: float("nan")}), says=f"no {member}")
            self.checked(False, self.entry(**{member: True}), says=f"no {member}")
        for member, value in (("launches", 0), ("registers", -1), ("spills", -5)):
            self.checked(False, self.entry(**{member: value}), says=f"{member} is {value}, nothing")

    def test_cases_that_go_or_change_their_names(self):
        for kernel, cases in check_traffic.CASES.items():
            for case in sorted(cases)[:2]:
                all_but = self.others(kernel, case)
                file = self.write("traffic.json", json.dumps(all_but))
                self.expect(False, "check_traffic.py", file, kernel, says=f"{kernel}/{case}: not measured")
                renamed = {**all_but[0], "case": case + "_", "bytes_per_token": 99}
                file = self.write("traffic.json", json.dumps([*all_but, renamed]))
                self.expect(False, "check_traffic.py", file, kernel, says=f"{kernel}/{case}_: a case that is not known")
        file = self.write("traffic.json", json.dumps([self.entry(kernel="other"), *self.others("block_copy", "")]))
        self.expect(False, "check_traffic.py", file, "block_copy", says="other/nhd_full: a kernel without limits")
        self.expect(False, "check_traffic.py", file, "nothing", says="nothing: a kernel without limits")
        self.expect(False, "check_traffic.py", file, says="prefix_match/long: not measured")
        twice = [self.entry(), *self.others("block_copy", "")]
        file = self.write("traffic.json", json.dumps(twice))
        self.expect(False, "check_traffic.py", file, "block_copy", says="nhd_full: there 2 times")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        COMPILER = sys.argv.pop(1)
    unittest.main()
