# Install and export: find_package(radixkv) gives radixkv::core and, when it was built with CUDA and the
# CUDA toolkit is there, radixkv::cuda.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/radixkv)

if(RADIXKV_HAVE_CUDA)
  set(RADIXKV_INSTALLED_CUDA ON)
  set(header_filter)
  install(EXPORT radixkv_cuda_targets NAMESPACE radixkv:: DESTINATION ${package_dir})
else()
  set(RADIXKV_INSTALLED_CUDA OFF)
  set(header_filter PATTERN "cuda_*.h" EXCLUDE)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/radixkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h" ${header_filter})

install(EXPORT radixkv_core_targets NAMESPACE radixkv:: DESTINATION ${package_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/radixkv-config.cmake.in
  ${PROJECT_BINARY_DIR}/radixkv-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/radixkv-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/radixkv-config.cmake
  ${PROJECT_BINARY_DIR}/radixkv-config-version.cmake
  ${CMAKE_CURRENT_LIST_DIR}/radixkv_find_cuda_toolkit.cmake DESTINATION ${package_dir})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
