/* Which instruction set's kernels run. */
#ifndef FE_DISPATCH_H
#define FE_DISPATCH_H

#include "kernels/kernels.h"

/* The kernels in use: the baseline's until fe_select_isa is called. */
const fe_kernels *fe_dispatch(void);

#endif
