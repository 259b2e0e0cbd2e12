from .._typing import Array

def parse_lines(
    data: bytes, at: int, n_cols: int, numbers_in_names: bool, rows: Array, spans: Array
) -> tuple[int, int, int, int, int, int]: ...
