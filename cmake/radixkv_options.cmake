# Compile options that every target of the project shares: radixkv_compile_options(target).
set(RADIXKV_WARNINGS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual)

if(RADIXKV_SANITIZE)
  # One flag for everything: a sanitizer that covers half a program reports nonsense.
  add_compile_options(
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${RADIXKV_SANITIZE}>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=all>)
  add_link_options(-fsanitize=${RADIXKV_SANITIZE})
endif()
if(RADIXKV_BUILD_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "RADIXKV_BUILD_FUZZ needs clang, not ${CMAKE_CXX_COMPILER_ID}")
  endif()
  # Coverage feedback from the library too, not from the fuzz target alone.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=fuzzer-no-link>)
endif()

find_program(RADIXKV_CCACHE ccache)
if(RADIXKV_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${RADIXKV_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${RADIXKV_CCACHE})
endif()

function(radixkv_compile_options target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  # Internal headers are included by their path from the project's root, by its own targets only.
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  # By hand: CMake 3.25 does not know that nvcc has C++20.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${RADIXKV_WARNINGS}>")
  if(RADIXKV_WERROR)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
  endif()
  if(RADIXKV_DEBUG_CHECKS)
    target_compile_definitions(${target} PRIVATE RADIXKV_DEBUG_CHECKS=1)
  endif()
endfunction()

# With RADIXKV_JOIN_SOURCES the target's sources are compiled in so many pieces: most of the time is headers,
# and templates that every source instantiates anew. More than one, so that two processors are busy to the
# end. The benchmarks' build, and one without a preset, see each source alone.
function(radixkv_join_sources target pieces)
  if(RADIXKV_JOIN_SOURCES)
    get_target_property(sources ${target} SOURCES)
    list(LENGTH sources count)
    math(EXPR piece "(${count} + ${pieces} - 1) / ${pieces}")
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${piece})
  endif()
endfunction()

# In sanitizer builds, for what compiles longer than it runs: a third less time than with -O1. Fuzz
# targets run for as long as they are let.
function(radixkv_compile_quickly target)
  if(RADIXKV_SANITIZE AND NOT RADIXKV_BUILD_FUZZ)
    target_compile_options(${target} PRIVATE -Og)
  endif()
endfunction()

# A library of the project: radixkv_add_library(radixkv_core core SOURCES... )
# defines radixkv_core and radixkv::core, hides what is not marked RADIXKV_EXPORT, and installs it.
function(radixkv_add_library target export_name)
  cmake_parse_arguments(arg "STATIC" "" "SOURCES" ${ARGN})
  if(arg_STATIC)
    add_library(${target} STATIC ${arg_SOURCES})
  else()
    add_library(${target} ${arg_SOURCES})
  endif()
  add_library(radixkv::${export_name} ALIAS ${target})
  radixkv_compile_options(${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${export_name}
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
  # Tests look inside the library, so only a library without tests hides its internals.
  if(NOT (BUILD_SHARED_LIBS AND RADIXKV_BUILD_TESTS))
    set_target_properties(${target} PROPERTIES
      CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  endif()
  # A plug-in that embeds the static library keeps it to itself: two of them in one process, each with
  # a version of its own, must not call each other's.
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "STATIC_LIBRARY")
    set(archive ${CMAKE_STATIC_LIBRARY_PREFIX}${target}${CMAKE_STATIC_LIBRARY_SUFFIX})
    set(consumer $<TARGET_PROPERTY:TYPE>)
    set(plug_in $<OR:$<STREQUAL:${consumer},SHARED_LIBRARY>,$<STREQUAL:${consumer},MODULE_LIBRARY>>)
    target_link_options(${target} INTERFACE
      "$<${plug_in}:LINKER:--exclude-libs,${archive}>")
  endif()
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  if(RADIXKV_INSTALL)
    # CUDA's libraries in an export set of their own: who embeds the core needs no toolkit.
    if(export_name STREQUAL "core")
      set(export_set radixkv_core_targets)
    else()
      set(export_set radixkv_cuda_targets)
    endif()
    install(TARGETS ${target} EXPORT ${export_set}
      ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
      RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endfunction()
