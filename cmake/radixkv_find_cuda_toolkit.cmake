# find_package(CUDAToolkit 13) that works with CMake 3.25 too. Its module wants to deprecate the library
# nvToolsExt, which CUDA 13 no longer has, where a project requires CMake 3.25 or later (fixed in 3.26).
set(radixkv_saved_minimum ${CMAKE_MINIMUM_REQUIRED_VERSION})
set(CMAKE_MINIMUM_REQUIRED_VERSION 3.24)
find_package(CUDAToolkit 13 QUIET)
set(CMAKE_MINIMUM_REQUIRED_VERSION ${radixkv_saved_minimum})
unset(radixkv_saved_minimum)
