# cython: cdivision=True
# Lines of vector files: names, and numbers with the bits of Python's float(). Hashes of strings.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *text, char **end, void *overflow) except? -1.0

# What is wrong with a line, as in fastembed/reference/formats/text.py.
cdef enum:
    NOTHING, TOO_FEW, TOO_MANY, NO_NUMBER

# Powers of ten that float64 has exactly, up to the 22nd.
cdef double[23] POWERS
cdef int power
POWERS[0] = 1.0
for power in range(1, 23):
    POWERS[power] = POWERS[power - 1] * 10.0

cdef uint64_t EXACT = 1 << 53  # integers up to it are float64s


cdef inline bint is_blank(char c) noexcept:
    return c == c' ' or c == c'\t'


cdef inline bint is_digit(char c) noexcept:
    return c'0' <= c <= c'9'


cdef bint parse_short(const char *at, const char *end, double *number) noexcept:
    """Whether a word is a decimal number of so few digits that one product or quotient of exact float64s is its value.

    Both of its operands are exact, so the result is the float64 nearest to the decimal number.
    """
    cdef uint64_t digits = 0
    cdef int n_digits = 0, exponent = 0, written = 0
    cdef bint is_negative = at < end and at[0] == c'-', is_small = False
    if is_negative or (at < end and at[0] == c'+'):
        at += 1
    while at < end and is_digit(at[0]) and n_digits < 18:
        digits = 10 * digits + <uint64_t>(at[0] - c'0')
        n_digits, at = n_digits + 1, at + 1
    if at < end and at[0] == c'.':
        at += 1
        while at < end and is_digit(at[0]) and n_digits < 18:
            digits = 10 * digits + <uint64_t>(at[0] - c'0')
            n_digits, exponent, at = n_digits + 1, exponent - 1, at + 1
    if n_digits == 0:
        return False
    if at < end and (at[0] == c'e' or at[0] == c'E'):
        at += 1
        is_small = at < end and at[0] == c'-'
        if is_small or (at < end and at[0] == c'+'):
            at += 1
        if at == end:
            return False
        while at < end and is_digit(at[0]) and written < 100:
            written, at = 10 * written + (at[0] - c'0'), at + 1
        exponent += -written if is_small else written
    if at < end or digits > EXACT or not -22 <= exponent <= 22:
        return False
    number[0] = digits / POWERS[-exponent] if exponent < 0 else digits * POWERS[exponent]
    if is_negative:
        number[0] = -number[0]
    return True


cdef bint parse_number(const char *at, const char *end, double *number) except *:
    """Whether a word is a number, and which; a byte that ends a word (a blank, the end of a line or a 0) follows it."""
    cdef char *stopped = NULL
    if parse_short(at, end, number):
        return True
    try:
        number[0] = PyOS_string_to_double(at, &stopped, NULL)
    except ValueError:
        return False
    return stopped == end


cdef int64_t begin_of_numbers(const char *line, int64_t length, int64_t n_cols, int64_t *n_words) noexcept:
    """Where the last `n_cols` words of a line begin, counting only those that a blank precedes; and how many there are."""
    cdef int64_t at = length
    n_words[0] = 0
    while True:
        while at > 0 and not is_blank(line[at - 1]):
            at -= 1
        if at == 0:
            return 0
        n_words[0] += 1
        if n_words[0] == n_cols:
            return at
        while at > 0 and is_blank(line[at - 1]):
            at -= 1


cdef int parse_line(const char *line, int64_t length, int64_t n_cols, bint numbers_in_names, double *numbers,
                    int64_t *span) except -1:
    """One line that is not blank: `span` is the end of its name (second), or the word that is wrong."""
    cdef int64_t n_words, first = begin_of_numbers(line, length, n_cols, &n_words), end, name_end = first - 1, i
    cdef double ignored
    if n_words < n_cols:
        span[0], span[1] = 0, n_words
        return TOO_FEW
    if not numbers_in_names:
        end = name_end
        while end > 0 and is_blank(line[end - 1]):
            end -= 1
        span[0], span[1] = end, end
        while span[0] > 0 and not is_blank(line[span[0] - 1]):
            span[0] -= 1
        if 0 < span[0] < end and parse_number(line + span[0], line + end, &ignored):
            return TOO_MANY
    for i in range(n_cols):
        while is_blank(line[first]):
            first += 1
        end = first
        while end < length and not is_blank(line[end]):
            end += 1
        if not parse_number(line + first, line + end, numbers + i):
            span[0], span[1] = first, end
            return NO_NUMBER
        first = end
    span[0], span[1] = 0, name_end
    return NOTHING


def parse_lines(bytes data not None, int64_t at, int64_t n_cols, bint numbers_in_names, double[:, ::1] rows not None,
                int64_t[:, ::1] spans not None):
    """Lines from byte `at` on, up to the end, to the first that is wrong, or until all rows are filled.

    Fills `rows` with their numbers, and `spans` with the begin and end of the name and the number of the line, from 0.
    Returns where it stopped, how many rows and lines that makes, and what is wrong with the last line, with the word.
    Python's strtod, for numbers of many digits, needs the GIL; callers give a block of about a megabyte.
    """
    cdef const char *text = PyBytes_AS_STRING(data)
    cdef int64_t size = PyBytes_GET_SIZE(data), n_rows = 0, n_lines = 0, begins, length
    cdef int64_t[2] span
    cdef const char *newline
    cdef int fault
    if n_cols < 1 or at < 0 or rows.shape[1] != n_cols or spans.shape[0] != rows.shape[0] or spans.shape[1] != 3:
        raise ValueError("rows must have the columns of the lines, and spans three")
    while at < size and n_rows < rows.shape[0]:
        begins = at
        newline = <const char *>memchr(text + at, c'\n', size - at)
        length = (newline - text if newline != NULL else size) - begins
        at, n_lines = begins + length + (newline != NULL), n_lines + 1
        while length > 0 and (is_blank(text[begins + length - 1]) or text[begins + length - 1] == c'\r'):
            length -= 1
        if length == 0:
            continue
        fault = parse_line(text + begins, length, n_cols, numbers_in_names, &rows[n_rows, 0], span)
        if fault == TOO_FEW:
            return at, n_rows, n_lines, fault, 0, span[1]
        if fault != NOTHING:
            return at, n_rows, n_lines, fault, begins + span[0], begins + span[1]
        spans[n_rows, 0], spans[n_rows, 1], spans[n_rows, 2] = begins, begins + span[1], n_lines - 1
        n_rows += 1
    return at, n_rows, n_lines, 0, 0, 0


cdef uint64_t word_at(const unsigned char *data, int64_t size) noexcept:
    """The little-endian number of up to eight bytes."""
    cdef uint64_t word = 0
    cdef int64_t i
    for i in range(size):
        word |= <uint64_t>data[i] << (8 * i)
    return word


def hash_string(str string not None):
    """MurmurHash2 (64A) of the UTF-8 of a string, with the seed 1."""
    cdef bytes encoded = string.encode()
    cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(encoded)
    cdef int64_t size = PyBytes_GET_SIZE(encoded), at = 0
    cdef uint64_t m = 0xC6A4A7935BD1E995u, h = 1 ^ (<uint64_t>size * m), k
    while at + 8 <= size:
        k = word_at(data + at, 8) * m
        h = (h ^ ((k ^ (k >> 47)) * m)) * m
        at += 8
    if at < size:
        h = (h ^ word_at(data + at, size - at)) * m
    h = (h ^ (h >> 47)) * m
    return h ^ (h >> 47)
