/* Which instruction set's kernels run. */
#ifndef FE_DISPATCH_H
#define FE_DISPATCH_H

#include "kernels/kernels.h"

/* The table in use: the baseline until fe_select_isa says otherwise. */
const fe_kernels *fe_dispatch(void);

#endif
