# radixkv_add_test(name SOURCES... [LIBRARIES...] [CUDA] [SKIP_CHECKS a,b] [LABELS...] [TIMEOUT s]
#                  [ARGS...] [NO_MAIN] [COMPILE_OPTIONS...] [THREAD]
#                  [WEAK_SEEDS n [WEAK_FILTER pattern]])
#
# Builds a GoogleTest program and registers it. A program that runs no test fails, and on the host one
# of which every test skips itself (but for builds without RADIXKV_DEBUG_CHECKS, where there is nothing to count).
# CUDA: also links the CUDA libraries, and registers the program twice, as name.lazy and
# name.random. When the machine has a GPU name.lazy runs there (and name.random is skipped);
# otherwise both run on the CUDA simulator in that asynchronous mode, with its race,
# initialisation and leak checks on, except in kernels whose name contains one of SKIP_CHECKS.
# THREAD: registers it once more, as name.thread: on the simulator with a thread of its own for the device.
# WEAK_SEEDS: registers it once more, as name.weak: on the simulator with weak memory, for n seeds,
# what matches the GoogleTest filter WEAK_FILTER.
# Without CUDA such a test is only counted (property RADIXKV_SKIPPED_CUDA_TESTS), and there is no
# target: guard what follows with if(TARGET name).
# NO_MAIN: the sources bring their own main.
function(radixkv_add_test name)
  cmake_parse_arguments(arg "CUDA;NO_MAIN;THREAD" "SKIP_CHECKS;TIMEOUT;WEAK_SEEDS;WEAK_FILTER"
    "SOURCES;LIBRARIES;LABELS;ARGS;COMPILE_OPTIONS" ${ARGN})
  if(NOT RADIXKV_BUILD_TESTS)
    return()
  endif()
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "radixkv_add_test(${name}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 600)
  endif()
  if(NOT arg_SKIP_CHECKS)
    set(arg_SKIP_CHECKS -)
  endif()
  if(arg_CUDA AND NOT RADIXKV_HAVE_CUDA)
    set_property(GLOBAL APPEND PROPERTY RADIXKV_SKIPPED_CUDA_TESTS ${name}.lazy ${name}.random)
    if(arg_THREAD)
      set_property(GLOBAL APPEND PROPERTY RADIXKV_SKIPPED_CUDA_TESTS ${name}.thread)
    endif()
    if(arg_WEAK_SEEDS)
      set_property(GLOBAL APPEND PROPERTY RADIXKV_SKIPPED_CUDA_TESTS ${name}.weak)
    endif()
    return()
  endif()

  add_executable(${name} ${arg_SOURCES})
  radixkv_compile_options(${name})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} radixkv::core GTest::gtest)
  if(NOT arg_NO_MAIN)
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
  endif()
  radixkv_compile_quickly(${name})
  if(RADIXKV_JOIN_SOURCES AND NOT RADIXKV_SANITIZE)  # the libraries stay optimised: a third less time, and tests run as fast
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Og>)
  endif()
  if(TARGET radixkv_test_headers AND NOT arg_CUDA)
    target_precompile_headers(${name} REUSE_FROM radixkv_test_headers)
  endif()
  target_compile_options(${name} PRIVATE ${arg_COMPILE_OPTIONS})
  set_property(GLOBAL APPEND PROPERTY RADIXKV_TEST_PROGRAMS ${name})
  foreach(label ${arg_LABELS})
    radixkv_label_program(${label} ${name})
  endforeach()

  if(arg_CUDA)
    radixkv_cuda_program(${name})
    set(modes lazy random)
    if(arg_THREAD)
      list(APPEND modes thread)
    endif()
    if(arg_WEAK_SEEDS)
      list(APPEND modes weak-${arg_WEAK_SEEDS})
    endif()
    foreach(mode ${modes})
      string(REGEX REPLACE "-.*" "" test ${name}.${mode})
      set(args ${arg_ARGS})
      if(mode MATCHES weak AND arg_WEAK_FILTER)
        list(APPEND args --gtest_filter=${arg_WEAK_FILTER})
      endif()
      add_test(NAME ${test}
        COMMAND ${PROJECT_SOURCE_DIR}/cmake/run_cuda_test ${mode} ${arg_SKIP_CHECKS}
          $<TARGET_FILE_DIR:cudasim_cudart> $<TARGET_FILE:${name}> ${args})
      set_tests_properties(${test} PROPERTIES
        TIMEOUT ${arg_TIMEOUT} SKIP_RETURN_CODE 77 LABELS "cuda;${arg_LABELS}"
        FAIL_REGULAR_EXPRESSION "Running 0 tests from")
    endforeach()
  else()
    add_test(NAME ${name} COMMAND ${name} ${arg_ARGS})
    set(nothing_ran "Running 0 tests from")
    if(RADIXKV_DEBUG_CHECKS)
      list(APPEND nothing_ran "PASSED  . 0 tests")
    endif()
    set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "host;${arg_LABELS}"
      FAIL_REGULAR_EXPRESSION "${nothing_ran}")
  endif()
endfunction()

# In sanitizer builds, GoogleTest's headers compiled once for all tests; other builds see that each test
# includes what it needs. A program, since GCC compiles no program with what was compiled for a library.
function(radixkv_add_test_headers)
  if(RADIXKV_SANITIZE AND RADIXKV_JOIN_SOURCES)
    file(WRITE ${PROJECT_BINARY_DIR}/test_headers.cpp "int main() {}\n")
    add_executable(radixkv_test_headers ${PROJECT_BINARY_DIR}/test_headers.cpp)
    radixkv_compile_options(radixkv_test_headers)
    radixkv_compile_quickly(radixkv_test_headers)
    target_link_libraries(radixkv_test_headers PRIVATE radixkv::core GTest::gtest)
    target_precompile_headers(radixkv_test_headers PRIVATE <gtest/gtest.h> <radixkv/kv_cache.h>)
  endif()
endfunction()

# Makes the program part of the target radixkv_tests_LABEL, so that `./dev test -L LABEL` builds no more
# than it runs.
function(radixkv_label_program label name)
  if(NOT TARGET radixkv_tests_${label})
    add_custom_target(radixkv_tests_${label})
  endif()
  add_dependencies(radixkv_tests_${label} ${name})
endfunction()

# What every program that runs kernels needs: the libraries, line numbers for reports, and a
# runtime search path that LD_LIBRARY_PATH may override (the simulator replaces libcudart).
function(radixkv_cuda_program name)
  target_link_libraries(${name} PRIVATE radixkv_kernels CUDA::cudart)
  target_link_libraries(${name} PRIVATE radixkv::cuda)
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo>
    $<$<COMPILE_LANGUAGE:CUDA>:--extended-lambda>)
  target_link_options(${name} PRIVATE -Wl,--enable-new-dtags)
endfunction()

# radixkv_add_bench(name SOURCES... [LIBRARIES...] [CUDA] [NO_GBENCH])
# Builds a benchmark (Google Benchmark unless NO_GBENCH) as bench/FOLDER/name in the build folder,
# and adds it to the target bench_FOLDER, where FOLDER is bench/host or bench/kernels.
function(radixkv_add_bench name)
  cmake_parse_arguments(arg "CUDA;NO_GBENCH" "" "SOURCES;LIBRARIES" ${ARGN})
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "radixkv_add_bench(${name}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(arg_CUDA AND NOT RADIXKV_HAVE_CUDA)
    return()
  endif()
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  add_executable(${name} ${arg_SOURCES})
  radixkv_compile_options(${name})
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench/${folder})
  target_compile_definitions(${name} PRIVATE RADIXKV_BUILD_TYPE="${CMAKE_BUILD_TYPE}")
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} radixkv::core)
  if(NOT arg_NO_GBENCH)
    target_link_libraries(${name} PRIVATE benchmark::benchmark)
  endif()
  if(arg_CUDA)
    radixkv_cuda_program(${name})
  endif()
  if(NOT TARGET bench_${folder})
    add_custom_target(bench_${folder})
  endif()
  add_dependencies(bench_${folder} ${name})
endfunction()

# radixkv_add_fuzz_test(fuzz_NAME SOURCES... [LIBRARIES...])
# A libFuzzer target (LLVMFuzzerTestOneInput) with a seed corpus in corpus/fuzz_NAME beside it. With
# RADIXKV_BUILD_FUZZ (clang) it becomes a fuzzer in tests/fuzz of the build folder; in any other
# build an ordinary test that runs every file of the corpus once, so that past findings stay fixed.
function(radixkv_add_fuzz_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "radixkv_add_fuzz_test(${name}): unknown ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT name MATCHES "^fuzz_")
    message(FATAL_ERROR "radixkv_add_fuzz_test(${name}): the name must begin with fuzz_")
  endif()
  set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/corpus/${name})
  file(GLOB seeds ${corpus}/*)
  if(NOT seeds)
    message(FATAL_ERROR "radixkv_add_fuzz_test(${name}): no seed corpus in ${corpus}")
  endif()
  if(RADIXKV_BUILD_FUZZ)
    add_executable(${name} ${arg_SOURCES})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${arg_SOURCES} ${PROJECT_SOURCE_DIR}/tests/support/run_corpus.cpp)
    add_test(NAME ${name} COMMAND ${name} ${corpus})
    set_tests_properties(${name} PROPERTIES TIMEOUT 600 LABELS "host;fuzz")
  endif()
  radixkv_compile_options(${name})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} radixkv::core)
  if(NOT TARGET radixkv_fuzz_targets)
    add_custom_target(radixkv_fuzz_targets)
  endif()
  add_dependencies(radixkv_fuzz_targets ${name})
endfunction()
