/* The arguments of a custom call of XLA as the structs of fastembed.h, and statuses as its
 * errors. */
#ifndef FE_XLA_CALL_H
#define FE_XLA_CALL_H

#include <stdbool.h>

#include "fastembed.h"
#include "xla_ffi.h"

typedef struct {
    const fe_xla_call *call;
    fe_xla_error *error; /* the first one, or NULL */
} fe_xla_frame;

/* Records an error of that code and text, unless there is one; returns false. */
bool fe_xla_fail(fe_xla_frame *frame, int32_t code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Whether a status is FE_OK; if not, records its error. It is about these ids, of a table of n_rows
 * rows. */
bool fe_xla_check(fe_xla_frame *frame, fe_status status, const fe_xla_buffer *ids, int64_t n_rows);

/* The k-th argument or the first result; NULL where there is none. */
const fe_xla_buffer *fe_xla_arg(const fe_xla_frame *frame, int64_t k);
const fe_xla_buffer *fe_xla_result(const fe_xla_frame *frame);

/* An attribute that is an int64; records an error and returns 0 if there is none. */
int64_t fe_xla_attr(fe_xla_frame *frame, const char *name);

/* The product of the lengths of the first n_dims axes. */
int64_t fe_xla_n_items(const fe_xla_buffer *buffer, int64_t n_dims);

/* Each fills a struct from a buffer, or records an error and returns false: ids of any shape; a
 * table of rows that are copied; one of floats or complex numbers, which count as two columns. */
bool fe_xla_ids(fe_xla_frame *frame, const fe_xla_buffer *buffer, fe_ids *ids);
bool fe_xla_bytes(fe_xla_frame *frame, const fe_xla_buffer *buffer, fe_table *table);
bool fe_xla_floats(fe_xla_frame *frame, const fe_xla_buffer *buffer, fe_table *table);

/* Answers what is no execution of `run`; else runs it, with at least n_args arguments. */
fe_xla_error *fe_xla_handle(fe_xla_call *call, int64_t n_args, void (*run)(fe_xla_frame *frame));

#endif
