"""Lines of text: the kernel and the reference agree, and numbers have the bits of `float`."""

import random

import numpy as np
import pytest
import vector_files

import fastembed as fe
from fastembed._kernels import backend
from fastembed.checkpoint import CheckpointError
from fastembed.reference.formats import text

AWKWARD = (
    "nan", "-inf", "Infinity", "1_0", "0x1p3", "1e400", "-1e-400", "5e-324", "1e22", "1e23", "9007199254740993", "-0", "٣", "1e",
    "9007199254740993e-22", ".", "1.", ".5", "+.5E-3", "0.000000000000000000000000000012345", "\x00", "1\x00", "e5", "--1",
    "1.00000017881393432617187499", "1.00000017881393432617187500", "123456789012345678", "1e-000000000000000000000000022",
)  # fmt: skip


def number(rng):
    kind = rng.randrange(7)
    if kind == 0:
        return repr(rng.uniform(-1, 1))
    if kind == 1:
        return f"{rng.gauss(0, 1e-5):.9g}"
    if kind == 2:
        return str(rng.randrange(10 ** rng.randrange(1, 25)))
    if kind == 3:
        return "".join(rng.choice("0123456789.eE+-") for _ in range(rng.randrange(1, 9)))
    if kind == 4:
        return rng.choice(AWKWARD)
    if kind == 5:
        return f"{rng.randrange(10 ** rng.randrange(1, 18))}e{rng.randrange(-30, 30)}"
    return f"{rng.randrange(1000)}.{rng.randrange(10**9)}"


def line(rng, n_cols):
    name = rng.choice(("a", "", "a b", " ", "x\r", "1", "a 1", "é\xa0", "\t"))
    numbers = [number(rng) for _ in range(n_cols + rng.choice((0, 0, 0, 0, 0, 1, -1)))]
    blanks = (" ", " ", "\t", "  ")
    return name + rng.choice(blanks) + rng.choice(blanks).join(numbers) + rng.choice(("", "", "", " ", "\r", " \r"))


def by_reference(data, n_cols, numbers_in_names):
    """Each line: its name and numbers, or what is wrong with it."""
    found = []
    for line in data.split(b"\n"):
        try:
            parsed = text.parse_line(line, n_cols, numbers_in_names)
        except text.LineFault as fault:
            first, end = fault.first, fault.end
            found.append((fault.kind, end if fault.kind == text.TOO_FEW else line[first:end]))
        else:
            if parsed is not None:
                found.append((line[: parsed[0]], np.array(parsed[1]).tobytes()))
    return found


def by_kernel(data, n_cols, numbers_in_names):
    at, found = 0, []
    while at < len(data):
        rows, spans = np.empty((len(data), n_cols)), np.empty((len(data), 3), np.int64)
        at, n, _, fault, first, end = backend.kernels.parse_lines(data, at, n_cols, numbers_in_names, rows, spans)
        found += [(data[a:b], row.tobytes()) for (a, b, _), row in zip(spans[:n].tolist(), rows, strict=False)]
        if fault:
            found.append((fault, end if fault == text.TOO_FEW else data[first:end]))
    return found


@pytest.mark.on_reference
def test_the_kernel_finds_what_the_reference_does():
    rng = random.Random(0)
    for case in range(1500):
        n_cols = rng.randrange(1, 4)
        data = "\n".join(line(rng, n_cols) for _ in range(rng.randrange(1, 5))).encode() + rng.choice((b"", b"\n", b"\n\n"))
        assert by_kernel(data, n_cols, case % 2 == 0) == by_reference(data, n_cols, case % 2 == 0), data


def test_numbers_have_the_bits_of_float():
    rng = random.Random(1)
    words = [f"{rng.uniform(-10, 10):.{rng.randrange(1, 25)}g}" for _ in range(3000)]
    words += [f"{rng.randrange(10**17)}e{rng.randrange(-340, 310)}" for _ in range(3000)]
    ((name, found),) = by_kernel(f"a {' '.join(words)}".encode(), len(words), False)
    assert (name, found) == (b"a", np.array([*map(float, words)]).tobytes())


def read(tmp_path, text, **options):
    path = tmp_path / "v.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return fe.load_vectors(path, **options)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("2 2\na 1 2\nb 3\n", r"line 3: must be a name and 2 numbers, got 1 word after the name"),
        ("2 2\na 1 2\nb 3 4 5\n", r"line 3: must be a name and 2 numbers, got one number more, b'3'"),
        ("2 2\na 1 2\nb 3 x\n", r"line 3: must be a name and 2 numbers, got b'x' as one of the numbers"),
        ("2 2\na 1 2\n\nb 3 1_0\n", r"line 4: must be .* got b'1_0' as one of the numbers"),
        ("a 1 2\nb 3 4\nc 5\n", r"line 3: must be a name and 2 numbers, got 1 word"),
        ("3 2\na 1 2\nb 3 4\n", r"line 1: the header states 3 rows, and 2 lines follow"),
        ("2 3\na 1 2\nb 3 4\n", r"line 2: must be a name and 3 numbers, got 2 words"),
        ("2 0\na\nb\n", r"the header, line 1, must state 1 to 2..25 columns, got 0"),
        ("2 2\na 1 2\na 3 4\n", r"line 3: the name 'a' is there twice"),
        (b"2 2\na 1 2\n\xe9 3 4\n", r"line 3: the name b'\\xe9' is not in utf-8: give encoding="),
    ],
)
def test_a_malformed_line_is_named(tmp_path, text, what):
    with pytest.raises(CheckpointError, match=what) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "v.txt") in str(caught.value)


def test_what_is_malformed_can_be_left_out(tmp_path):
    text = b"9 2\na 1 2\nb 3\nc 5 6\na 7 8\n\xe9 3 4\nd x 1\ne 9 10\n"
    with pytest.warns(UserWarning, match="5 lines were left out; the first, line 3: must be a name and 2 numbers"):
        layer = read(tmp_path, text, errors="skip")
    assert list(layer.vocabulary) == ["a", "c", "e"]
    assert layer.weight.tolist() == [[1, 2], [5, 6], [9, 10]]
    assert list(read(tmp_path, "1 2\nb 1 2\n", errors="skip").vocabulary) == ["b"]


def test_names_with_blanks_and_numbers(tmp_path):
    layer = read(tmp_path, "new york 1 2\n 3 4\na  5 6\r\n1990\t7\t8 \n. . . 9 10\n")
    assert list(layer.vocabulary) == ["new york", "", "a ", "1990", ". . ."]
    text = "2 2\ntop 10 1 2\nb 3 4\n"
    with pytest.raises(CheckpointError, match=r"line 2: .* one number more, b'10' \(numbers_in_names takes it"):
        read(tmp_path, text)
    assert list(read(tmp_path, text, numbers_in_names=True).vocabulary) == ["top 10", "b"]


def test_encodings(tmp_path):
    text = "1 2\ngrün 1 2\n"
    assert list(read(tmp_path, text.encode("latin-1"), encoding="latin-1").vocabulary) == ["grün"]
    assert list(read(tmp_path, b"\xef\xbb\xbf" + text.encode()).vocabulary) == ["grün"]
    with pytest.raises(CheckpointError, match="it is text in UTF-16: convert it to UTF-8"):
        read(tmp_path, text.encode("utf-16"))
    for wrong in ("utf-16", "none", 3):
        with pytest.raises(ValueError, match="encoding must be one that ASCII is a part of"):
            read(tmp_path, text, encoding=wrong)


def test_a_file_of_many_blocks(tmp_path):
    """Lines that lie across the blocks of a megabyte, and one that is longer than a block."""
    layer = vector_files.layer(random.Random(2), 3000, 60, letters="ab c")
    names = list(layer.vocabulary)
    layer.vocabulary = [*names[:-1], "y" * 3_000_000]
    done = []
    layer.save_vectors(tmp_path / "v.txt")
    found = fe.load_vectors(tmp_path / "v.txt", progress=lambda *numbers: done.append(numbers))
    vector_files.assert_same(found, layer)
    size = (tmp_path / "v.txt").stat().st_size
    assert [numbers[1] for numbers in done] == [size] * len(done)
    assert len(done) > 2
    assert done[-1][0] == size
    assert done == sorted(done)


def test_half_and_double_precision(tmp_path):
    text = "1 2\na 0.1 1.00000017881393432617187501\n"
    for dtype in ("float64", "float32", "float16"):
        found = read(tmp_path, text, dtype=dtype).weight
        assert found.tobytes() == np.array([[0.1, 1.00000017881393432617187501]]).astype(dtype).tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_binary_files_whose_bytes_look_like_text(tmp_path, shape):
    """A float32 may be four letters: the length of the file tells."""
    rows = np.frombuffer(b"Anna" * (shape[0] * shape[1]), "<f4").reshape(shape)
    layer = fe.Embedding.from_pretrained(rows.copy())
    layer.vocabulary = [f"n{k}" for k in range(shape[0])]
    layer.save_vectors(tmp_path / "v.bin")
    assert (fe.load_vectors(tmp_path / "v.bin").weight == rows).all()


def test_a_binary_file_with_a_brace_where_safetensors_has_one(tmp_path):
    layer = fe.Embedding.from_pretrained(np.frombuffer(b"\xf1{\xb7?\x87\xa9q>", "<f4").reshape(1, 2).copy())
    layer.vocabulary = ["w0"]
    layer.save_vectors(tmp_path / "v.bin")
    assert (tmp_path / "v.bin").read_bytes()[8:9] == b"{"
    assert (fe.load_vectors(tmp_path / "v.bin").weight == layer.weight).all()


def test_glove_without_rows_is_not_written(tmp_path):
    layer = fe.Embedding.from_pretrained(np.ones((0, 2), "f4"))
    layer.vocabulary = []
    with pytest.raises(ValueError, match="a table without rows cannot be written as glove"):
        layer.save_vectors(tmp_path / "v.glove")
    assert not list(tmp_path.iterdir())
