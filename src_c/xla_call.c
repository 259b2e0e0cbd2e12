#include "xla_call.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool fe_xla_fail(fe_xla_frame *frame, int32_t code, const char *format, ...)
{
    char text[2048];
    if (frame->error != NULL)
        return false;
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    fe_xla_error_args args = {.struct_size = sizeof args, .message = text, .code = code};
    frame->error = frame->call->api->create_error(&args);
    return false;
}

/* The indices of an item, as Python shows a tuple: at most FE_MAX_DIMS numbers. */
static void write_position(char *text, size_t size, const fe_xla_buffer *buffer, int64_t item)
{
    int64_t indices[FE_MAX_DIMS];
    const int64_t n_dims = buffer->n_dims;
    for (int64_t k = n_dims - 1; k >= 0; k--) {
        indices[k] = item % buffer->dims[k];
        item /= buffer->dims[k];
    }
    size_t n = (size_t)snprintf(text, size, "(");
    for (int64_t k = 0; k < n_dims; k++)
        n += (size_t)snprintf(text + n, size - n, k == 0 ? "%" PRId64 : ", %" PRId64, indices[k]);
    snprintf(text + n, size - n, n_dims == 1 ? ",)" : ")");
}

bool fe_xla_check(fe_xla_frame *frame, fe_status status, const fe_xla_buffer *ids, int64_t n_rows)
{
    if (status.code == FE_OK)
        return true;
    if (status.code == FE_NO_MEMORY)
        return fe_xla_fail(frame, FE_XLA_RESOURCE_EXHAUSTED, "no memory for a copy of %" PRId64 " ids",
                           fe_xla_n_items(ids, ids->n_dims));
    char position[FE_MAX_DIMS * 22 + 3], id[24];
    write_position(position, sizeof position, ids, status.index);
    snprintf(id, sizeof id, ids->type == FE_XLA_U64 ? "%" PRIu64 : "%" PRId64, status.id);
    return fe_xla_fail(frame, FE_XLA_OUT_OF_RANGE, "id %s at position %s is out of range for a table of %" PRId64 " rows", id,
                       position, n_rows);
}

const fe_xla_buffer *fe_xla_arg(const fe_xla_frame *frame, int64_t k)
{
    return k < frame->call->args.n ? frame->call->args.buffers[k] : NULL;
}

const fe_xla_buffer *fe_xla_result(const fe_xla_frame *frame)
{
    return frame->call->results.buffers[0];
}

int64_t fe_xla_attr(fe_xla_frame *frame, const char *name)
{
    const fe_xla_attrs *attrs = &frame->call->attrs;
    for (int64_t k = 0; k < attrs->n; k++) {
        const fe_xla_name *of_attr = attrs->names[k];
        if (attrs->kinds[k] != FE_XLA_SCALAR_ATTR || of_attr->n_chars != strlen(name) ||
            memcmp(of_attr->chars, name, of_attr->n_chars) != 0)
            continue;
        const fe_xla_scalar *scalar = attrs->values[k];
        if (scalar->type == FE_XLA_S64)
            return *(const int64_t *)scalar->value;
    }
    fe_xla_fail(frame, FE_XLA_INVALID_ARGUMENT, "the custom call has no attribute %s of 64 bits", name);
    return 0;
}

int64_t fe_xla_n_items(const fe_xla_buffer *buffer, int64_t n_dims)
{
    int64_t n_items = 1;
    for (int64_t k = 0; k < n_dims; k++)
        n_items *= buffer->dims[k];
    return n_items;
}

bool fe_xla_ids(fe_xla_frame *frame, const fe_xla_buffer *buffer, fe_ids *ids)
{
    static const struct {
        fe_id_type type;
        int64_t size;
    } types[] = {
        [FE_XLA_S8] = {FE_I8, 1}, [FE_XLA_S16] = {FE_I16, 2}, [FE_XLA_S32] = {FE_I32, 4}, [FE_XLA_S64] = {FE_I64, 8},
        [FE_XLA_U8] = {FE_U8, 1}, [FE_XLA_U16] = {FE_U16, 2}, [FE_XLA_U32] = {FE_U32, 4}, [FE_XLA_U64] = {FE_U64, 8},
    };
    if (buffer->type < FE_XLA_S8 || buffer->type > FE_XLA_U64 || buffer->n_dims > FE_MAX_DIMS)
        return fe_xla_fail(frame, FE_XLA_INVALID_ARGUMENT, "ids must be integers, of at most %d axes", FE_MAX_DIMS);
    const int64_t n_ids = fe_xla_n_items(buffer, buffer->n_dims), size = types[buffer->type].size;
    *ids = (fe_ids){.type = types[buffer->type].type};
    fe_array_init(&ids->array, buffer->data, 1, &n_ids, &size);
    return true;
}

/* The last axis is that of the columns, of `size` bytes; all others count the rows. */
static bool table_of(fe_xla_frame *frame, const fe_xla_buffer *buffer, int64_t size, fe_table *table)
{
    if (size == 0 || buffer->n_dims < 1)
        return fe_xla_fail(frame, FE_XLA_INVALID_ARGUMENT, "rows of an unknown type or shape");
    table->shared = NULL;
    table->data = buffer->data;
    table->n_rows = fe_xla_n_items(buffer, buffer->n_dims - 1);
    table->n_cols = buffer->dims[buffer->n_dims - 1];
    table->row_stride = table->n_cols * size;
    return true;
}

bool fe_xla_bytes(fe_xla_frame *frame, const fe_xla_buffer *buffer, fe_table *table)
{
    static const int8_t sizes[] = {
        [FE_XLA_PRED] = 1, [FE_XLA_S8] = 1,  [FE_XLA_S16] = 2, [FE_XLA_S32] = 4,  [FE_XLA_S64] = 8,
        [FE_XLA_U8] = 1,   [FE_XLA_U16] = 2, [FE_XLA_U32] = 4, [FE_XLA_U64] = 8,  [FE_XLA_F16] = 2,
        [FE_XLA_F32] = 4,  [FE_XLA_F64] = 8, [FE_XLA_C64] = 8, [FE_XLA_BF16] = 2, [FE_XLA_C128] = 16,
    };
    const bool is_known = buffer->type >= 0 && buffer->type < (int32_t)(sizeof sizes);
    table->dtype = FE_BYTES;
    if (!table_of(frame, buffer, is_known ? sizes[buffer->type] : 0, table))
        return false;
    table->n_cols = table->row_stride;
    return true;
}

bool fe_xla_floats(fe_xla_frame *frame, const fe_xla_buffer *buffer, fe_table *table)
{
    const bool is_complex = buffer->type == FE_XLA_C64 || buffer->type == FE_XLA_C128;
    const bool is_single = buffer->type == FE_XLA_F32 || buffer->type == FE_XLA_C64;
    const int64_t size = is_single ? sizeof(float) : buffer->type == FE_XLA_F64 || is_complex ? sizeof(double) : 0;
    table->dtype = is_single ? FE_F32 : FE_F64;
    if (!table_of(frame, buffer, is_complex ? 2 * size : size, table))
        return false;
    table->n_cols *= is_complex ? 2 : 1;
    return true;
}

/* The version that these structs are those of; minor versions only add to them. */
static fe_xla_error *answer_metadata(const fe_xla_call *call)
{
    fe_xla_metadata *metadata = ((fe_xla_metadata_extension *)call->extensions)->metadata;
    metadata->version.major = FE_XLA_MAJOR;
    metadata->version.minor = call->api != NULL ? call->api->version.minor : 0;
    metadata->traits = 0;
    return NULL;
}

fe_xla_error *fe_xla_handle(fe_xla_call *call, int64_t n_args, void (*run)(fe_xla_frame *frame))
{
    if (call->extensions != NULL && call->extensions->type == FE_XLA_METADATA)
        return answer_metadata(call);
    fe_xla_frame frame = {call, NULL};
    if (call->stage != FE_XLA_EXECUTE)
        return NULL;
    if (call->args.n < n_args || call->results.n != 1)
        fe_xla_fail(&frame, FE_XLA_INVALID_ARGUMENT, "the custom call has another number of arguments");
    else
        run(&frame);
    return frame.error;
}
