"""The contenders: fastembed, and each way in which another library does the same work."""

from .backward import BACKWARD, add_in_order
from .bags import BAGS, bag_answer
from .base import OURS, PEERS, Contender, Inputs, set_threads, version
from .collection import MANY, MANY_IN_PLACE, MANY_STEP, N_COLS, many_answer, many_step_answer
from .forward import FORWARD, FRESH, READ
from .half import (
    HALF_BAG,
    HALF_FORWARD,
    HALF_LOOKUP,
    HALF_STEP,
    half_bag_answer,
    half_forward_answer,
    half_lookup_answer,
    half_step_answer,
)
from .hashed import FP8_ROW, HASHED, N_WORDS, NGRAM, WIDTH, hash_answer, ngram_answer
from .mapped import MAPPED, NGRAM_DISK, SHARED, SHARED_BESIDE, mapped_answer, ngram_disk_answer
from .norm import NORM, norm_answer
from .quantized import QUANTIZED, quantized_answer, round_to_levels
from .search import NEAREST, nearest_answer
from .short import FEW_BAGS, FEW_PACKED_BAGS, IMPORT, ONE_NAME, ONE_TOKEN, POSITION, TOKEN
from .step import STEP, long_run, long_run_answer, step_answer

__all__ = [
    "BACKWARD",
    "BAGS",
    "FEW_BAGS",
    "FEW_PACKED_BAGS",
    "FORWARD",
    "FP8_ROW",
    "FRESH",
    "HALF_BAG",
    "HALF_FORWARD",
    "HALF_LOOKUP",
    "HALF_STEP",
    "HASHED",
    "IMPORT",
    "MANY",
    "MANY_IN_PLACE",
    "MANY_STEP",
    "MAPPED",
    "NEAREST",
    "NGRAM",
    "NGRAM_DISK",
    "NORM",
    "N_COLS",
    "N_WORDS",
    "ONE_NAME",
    "ONE_TOKEN",
    "OURS",
    "PEERS",
    "POSITION",
    "QUANTIZED",
    "READ",
    "SHARED",
    "SHARED_BESIDE",
    "STEP",
    "TOKEN",
    "WIDTH",
    "Contender",
    "Inputs",
    "add_in_order",
    "bag_answer",
    "half_bag_answer",
    "half_forward_answer",
    "half_lookup_answer",
    "half_step_answer",
    "hash_answer",
    "long_run",
    "long_run_answer",
    "many_answer",
    "many_step_answer",
    "mapped_answer",
    "nearest_answer",
    "ngram_answer",
    "ngram_disk_answer",
    "norm_answer",
    "quantized_answer",
    "round_to_levels",
    "set_threads",
    "step_answer",
    "version",
]
