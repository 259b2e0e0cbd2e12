/* What XLA passes to a custom call on the CPU, as far as it is used here: the binary interface of
 * XLA's foreign functions, version 0.x. Every struct begins with its size in bytes and a chain of
 * extensions; a later version only adds fields at the end. tests/adapters/test_xla_layout.py
 * compares sizes and offsets with the header that jaxlib ships. */
#ifndef FE_XLA_FFI_H
#define FE_XLA_FFI_H

#include <stddef.h>
#include <stdint.h>

enum { FE_XLA_MAJOR = 0 }; /* of the interface */

enum { FE_XLA_EXECUTE = 3 };     /* stage of a call; the earlier ones prepare it */
enum { FE_XLA_METADATA = 1 };    /* type of an extension */
enum { FE_XLA_SCALAR_ATTR = 3 }; /* type of an attribute */

/* Codes of errors. */
enum { FE_XLA_INVALID_ARGUMENT = 3, FE_XLA_RESOURCE_EXHAUSTED = 8, FE_XLA_OUT_OF_RANGE = 11 };

/* Types of elements. */
enum {
    FE_XLA_PRED = 1,
    FE_XLA_S8 = 2,
    FE_XLA_S16 = 3,
    FE_XLA_S32 = 4,
    FE_XLA_S64 = 5,
    FE_XLA_U8 = 6,
    FE_XLA_U16 = 7,
    FE_XLA_U32 = 8,
    FE_XLA_U64 = 9,
    FE_XLA_F16 = 10,
    FE_XLA_F32 = 11,
    FE_XLA_F64 = 12,
    FE_XLA_C64 = 15,
    FE_XLA_BF16 = 16,
    FE_XLA_C128 = 18,
};

typedef struct fe_xla_extension {
    size_t struct_size;
    int32_t type;
    struct fe_xla_extension *next;
} fe_xla_extension;

/* An array in C order. */
typedef struct {
    size_t struct_size;
    fe_xla_extension *extensions;
    int32_t type;
    void *data;
    int64_t n_dims;
    int64_t *dims;
} fe_xla_buffer;

/* The arguments, or the results. */
typedef struct {
    size_t struct_size;
    fe_xla_extension *extensions;
    int64_t n;
    const int32_t *kinds;
    fe_xla_buffer **buffers;
} fe_xla_buffers;

typedef struct {
    const char *chars; /* not terminated */
    size_t n_chars;
} fe_xla_name;

typedef struct {
    int32_t type;
    void *value;
} fe_xla_scalar;

typedef struct {
    size_t struct_size;
    fe_xla_extension *extensions;
    int64_t n;
    const int32_t *kinds;
    fe_xla_name **names;
    void **values; /* fe_xla_scalar, where the kind is FE_XLA_SCALAR_ATTR */
} fe_xla_attrs;

typedef struct {
    size_t struct_size;
    fe_xla_extension *extensions;
    int32_t major, minor;
} fe_xla_version;

typedef struct {
    size_t struct_size;
    fe_xla_extension *extensions;
    const char *message; /* copied */
    int32_t code;
} fe_xla_error_args;

typedef struct fe_xla_error fe_xla_error; /* belongs to XLA */

typedef struct {
    size_t struct_size;
    fe_xla_extension *extensions;
    fe_xla_version version;
    const void *internals;
    fe_xla_error *(*create_error)(fe_xla_error_args *args);
} fe_xla_api;

typedef struct {
    size_t struct_size;
    fe_xla_extension *extensions;
    const fe_xla_api *api;
    void *context;
    int32_t stage;
    fe_xla_buffers args, results;
    fe_xla_attrs attrs;
} fe_xla_call;

/* With this extension a call asks for the version that the handler was written for, and does
 * nothing else. */
typedef struct {
    size_t struct_size;
    fe_xla_version version;
    uint32_t traits;
} fe_xla_metadata;

typedef struct {
    fe_xla_extension base;
    fe_xla_metadata *metadata;
} fe_xla_metadata_extension;

#endif
