"""Parquet and Arrow files, by pyarrow: a column of strings, and the rows as lists or as columns."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..._messages import first_few
from .blocks import Block, Vectors, places

if TYPE_CHECKING:
    from ..._typing import Array

_BLOCK = 1 << 20  # bytes of rows in a block
FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError("Parquet and Arrow files need pyarrow: pip install 'microgpt-fastembed[arrow]'") from None


def read(file: BinaryIO, is_parquet: bool, name: str | None) -> Vectors:
    """The vectors of a file; ``name`` is that of the column of lists, if there are several."""
    if is_parquet:
        opened = _module("pyarrow.parquet").ParquetFile(file)
        schema, batches = opened.schema_arrow, opened.iter_batches(batch_size=4096)
    else:
        opened = _module("pyarrow.ipc").open_file(file)
        schema, batches = opened.schema, (opened.get_batch(k) for k in range(opened.num_record_batches))
    strings = [field.name for field in schema if str(field.type) in ("string", "large_string")]
    lists = [field.name for field in schema if _item(field.type)]
    plain = [field.name for field in schema if str(field.type) in FLOATS]
    if name is not None:
        lists, plain = [column for column in lists if column == name], []
    if len(lists) > 1 or not lists + plain:
        raise ValueError(f"name must be that of one column of lists of floats, of {first_few(lists or schema.names)}")
    columns = lists or plain
    types = {_item(schema.field(column).type) or FLOATS[str(schema.field(column).type)] for column in columns}
    of_names = strings[0] if strings else None
    blocks = _blocks(batches, columns, bool(lists), of_names, np.dtype(max(types)))
    first = next(blocks, None)
    if first is None:
        n_cols = getattr(schema.field(columns[0]).type, "list_size", 0) if lists else len(columns)
        return Vectors(n_cols, np.dtype(max(types)), iter(()))
    return Vectors(first.rows.shape[1], first.rows.dtype, _chained(first, blocks))


def _chained(first: Block, others: Iterator[Block]) -> Iterator[Block]:
    yield first
    for block in others:
        if block.rows.shape[1] != first.rows.shape[1]:
            raise ValueError(f"{block.place(0)} has {block.rows.shape[1]} numbers, and row 0 has {first.rows.shape[1]}")
        yield block


def _item(kind: Any) -> str | None:
    """The dtype of the items of a type of lists of floats; None for another type."""
    return FLOATS.get(str(getattr(kind, "value_type", None)))


def _blocks(
    batches: Iterable[Any], columns: list[str], are_lists: bool, of_names: str | None, dtype: np.dtype[Any]
) -> Iterator[Block]:
    n = 0
    for batch in batches:
        batch.validate(full=True)  # of a damaged file, offsets may lead outside
        if not batch.num_rows:
            continue
        numbers = range(n, n + batch.num_rows)
        arrays = [batch.column(column) for column in columns]
        names = None if of_names is None else batch.column(of_names)
        if any(array.null_count for array in (*arrays, *([] if names is None else [names]))):
            raise ValueError(f"rows {n} to {numbers[-1]} have a null")
        if are_lists:
            flat = arrays[0].flatten()
            ends = np.asarray(arrays[0].value_lengths())
            if flat.null_count or np.any(ends != ends[0]):
                raise ValueError(f"rows {n} to {numbers[-1]} have a null, or not all as many numbers as row {n}")
            rows = flat.to_numpy(zero_copy_only=False).reshape(batch.num_rows, int(ends[0])).astype(dtype)
        else:
            rows = np.stack([array.to_numpy(zero_copy_only=False) for array in arrays], axis=1).astype(dtype)
        yield Block(None if names is None else names.to_pylist(), rows, places("row", numbers))
        n += batch.num_rows


def write(
    file: BinaryIO,
    is_parquet: bool,
    names: list[str] | None,
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    blocks: Iterable[Array],
) -> None:
    """Write the columns "name", if there are names, and "vector", lists of one length."""
    arrow = _module("pyarrow")
    kind = arrow.list_(arrow.from_numpy_dtype(dtype), shape[1])
    fields = [*([] if names is None else [("name", arrow.string())]), ("vector", kind)]
    schema, at = arrow.schema(fields), 0
    open_writer = _module("pyarrow.parquet").ParquetWriter if is_parquet else _module("pyarrow.ipc").new_file
    with open_writer(file, schema) as writer:
        for rows in blocks:
            flat = arrow.array(np.ascontiguousarray(rows, dtype.newbyteorder("=")).reshape(-1))
            columns = [arrow.FixedSizeListArray.from_arrays(flat, shape[1])]
            if names is not None:
                columns.insert(0, arrow.array(names[at : at + len(rows)], arrow.string()))
            writer.write_batch(arrow.record_batch(columns, schema=schema))
            at += len(rows)
