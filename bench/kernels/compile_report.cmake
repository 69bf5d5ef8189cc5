# Compiles SOURCE to CUBIN for sm_90 and keeps what ptxas says about registers and spills in REPORT.
execute_process(
  COMMAND ${NVCC} -std=c++20 -arch=sm_90 -O3 -lineinfo -I${INCLUDE} -cubin -Xptxas -v -MD -MF
    ${DEPFILE} -o ${CUBIN} ${SOURCE}
  ERROR_VARIABLE report OUTPUT_QUIET RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  file(REMOVE ${CUBIN})
  message(FATAL_ERROR "${report}")
endif()
file(WRITE ${REPORT} "${report}")
