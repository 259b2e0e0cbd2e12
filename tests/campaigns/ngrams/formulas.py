"""The variants of hashed n-grams as their papers and programs define them, in NumPy alone.

ids: tokens of one sequence, shape (T,); results have shape (T, (N - 1) H).
"""

import numpy as np


def remainders(mixes, sizes):
    """For n = 2 .. N: the mix of n modulo each of its heads' sizes, behind the heads before it."""
    flat = [size for of_n in sizes for size in of_n]
    offsets = np.cumsum([0, *flat[:-1]])
    of_heads = [mix % type(mix[0])(size) for mix, of_n in zip(mixes, sizes, strict=True) for size in of_n]
    return np.stack(of_heads, -1).astype(np.int64) + offsets


def shifted(codes, k, fill):
    """The code of the token k before each."""
    return np.concatenate([np.full(min(k, len(codes)), fill, codes.dtype), codes[: max(len(codes) - k, 0)]])


def mixed(look_backs, multipliers, dtype):
    mix, mixes = None, []
    for x, m in zip(look_backs, multipliers, strict=True):
        product = x.astype(dtype) * dtype(m)
        mix = product if mix is None else mix ^ product
        mixes.append(mix)
    return mixes[1:]


def engram(ids, token_map, multipliers, sizes, pad):
    """Engram's demo: tokens before the start of the sequence are padding."""
    codes = token_map[ids]
    look_backs = [shifted(codes, k, token_map[pad]) for k in range(len(multipliers))]
    return remainders(mixed(look_backs, multipliers, np.int64), sizes)


def v41(ids, token_map, multipliers, sizes, pad, image):
    """DeepSeek-V4.1: an image's token, and all before it, are padding."""
    codes, is_image = token_map[ids], ids == image
    is_over, look_backs = np.zeros(len(ids), bool), []
    for k in range(len(multipliers)):
        is_over = is_over | shifted(is_image, k, True)
        look_backs.append(np.where(is_over, token_map[pad], shifted(codes, k, 0)))
    return remainders(mixed(look_backs, multipliers, np.int64), sizes)


def ple(ids, multipliers, sizes, eos):
    """PLE: of the tokens before this one, those from the last end of a text on back are ends."""
    places = np.arange(len(ids))
    last_end = np.maximum.accumulate(np.where(ids == eos, places, -1))
    before = np.concatenate([[-1], last_end[:-1]])[: len(ids)]  # the last end before each token
    look_backs = [ids] + [np.where(places - k > before, shifted(ids, k, eos), eos) for k in range(1, len(multipliers))]
    with np.errstate(over="ignore"):
        return remainders(mixed(look_backs, multipliers, np.uint64), sizes)
