/* Which instruction sets this machine can run; false on other architectures. */
#ifndef FE_CPU_H
#define FE_CPU_H

#include <stdbool.h>

/* The processor has the instructions, and the operating system saves their registers. */
bool fe_cpu_has_avx2(void);
bool fe_cpu_has_avx512(void); /* F, VL, BW and DQ */

#endif
