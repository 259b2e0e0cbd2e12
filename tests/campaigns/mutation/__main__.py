"""python -m mutation: draws mutants, and lists those that no test notices."""

from __future__ import annotations

import argparse
import collections
import random
import sys
import time
from pathlib import Path

import written_list

from .build import ROOT, Build, status_of
from .mutate import Mutation, mutations

# The tests of a mutant that no replayed call tells, by the beginning of its path; the first that
# fits. Those that find most come first.
TESTS = {
    "fastembed/_checks/": ["checks", "functional", "layers", "optim", "io/test_checkpoint.py", "kernels/test_calls.py"],
    "src_c/pool.c": ["kernels", "campaigns/test_sharing.py", "functional"],
    "src_c/pages.c": ["io/mapped", "kernels"],
    "src_c/ngram.c": ["functional/test_ngram.py", "layers/test_ngram.py", "campaigns/test_ngrams.py", "kernels"],
    "src_c/hash.c": ["layers/test_hashed.py", "functional/test_ngram.py", "kernels"],
    "src_c/losses.c": ["layers/test_losses.py", "kernels"],
    "src_c/shared.c": ["kernels/test_shared_moments.py", "kernels/test_shared_refusals.py", "io/shared"],
    "src_c/disk/": ["kernels/test_disk_rows.py", "kernels/test_disk_waits.py", "tables"],
    "src_c/xla": ["adapters/test_xla_calls.py", "adapters/test_jax.py"],  # needs jax
    "src_c/cpu.c": ["kernels"],
    "src_c/dispatch.c": ["kernels"],
    "src_c/kernels/codes": ["functional/test_search_index.py", "functional", "layers", "kernels"],
    "src_c/kernels/decode": [
        *(f"layers/test_{name}.py" for name in ("packed", "packed_elements", "quantized", "ngram")),
        "kernels",
    ],
    "src_c/kernels/half": ["functional/test_half.py", "optim/test_half.py", "layers", "optim", "kernels"],
    "src_c/kernels/packed": ["layers/test_quantized.py", "layers/test_packed.py", "layers", "kernels"],
    "src_c/kernels/r": ["optim", "layers"],
    "src_c/update.c": ["optim", "layers", "kernels"],
    "src_c/codes.c": ["layers/test_packed.py", "layers/test_quantized.py", "kernels"],
    "src_c/": ["functional", "layers", "optim", "checks", "kernels"],
}
LIST = Path(__file__).parent / "equivalent.txt"


def sources(wanted: list[str]) -> dict[str, str]:
    """The text of each source that is mutated."""
    patterns = ("src_c/*.c", "src_c/disk/*.c", "src_c/kernels/*.inc", "fastembed/_checks/*.py")
    paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    return {path: text for path, text in texts.items() if not wanted or any(part in path for part in wanted)}


def fate_of(path: str, text: str, build: Build, with_tests: bool) -> str:
    """Of the source with that text: "refused" by the compiler; "killed" if a replayed call does
    something else, or a test fails, crashes or does not end; "same" as machine code; else
    "survived", or "untested" if no test ran. Without tests "not told" by any call."""
    with build.mutated(path, text) as built:
        if not built:
            return "refused"
        if not build.replays():
            return "killed"
        if build.is_the_same_code(path):
            return "same"
        return fate_in_tests(path, build) if with_tests else "not told"


def fate_in_tests(path: str, build: Build) -> str:
    parts = next(tests for beginning, tests in TESTS.items() if path.startswith(beginning))
    isa = {"FASTEMBED_ISA": build.isa} if path.startswith("src_c/kernels/") else {}
    pytest, fate = [str(Path(sys.executable).with_name("pytest")), "-x", "-p", "no:cacheprovider"], "untested"
    for part in parts:
        status = status_of([*pytest, f"tests/{part}"], build.environment | isa)
        if status not in (0, 5):  # 5: nothing to run there
            return "killed"
        fate = "survived" if status == 0 else fate
    return fate


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument("--n", type=int, default=50, help="mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", default="", help="only sources whose paths have one of these, with commas between")
    parser.add_argument("--isa", default="avx2", help="whose kernels are mutated")
    parser.add_argument("--calls", action="store_true", help="only those calls that are replayed, and no test")
    arguments = parser.parse_args()
    texts = sources([part for part in arguments.files.split(",") if part])
    equivalent = {block[:3] for block in written_list.read(LIST, 4)}
    # Each file as often as another, so that the small ones are not left out.
    by_file: dict[str, list[Mutation]] = {path: list(mutations(path, text)) for path, text in texts.items()}
    rng, counts = random.Random(arguments.seed), collections.Counter[str]()
    for found in by_file.values():
        rng.shuffle(found)
    build = Build(ROOT / "build" / "mutants", arguments.isa)
    while counts.total() - counts["refused"] < arguments.n and any(by_file.values()):
        path = rng.choice([path for path, left in by_file.items() if left])
        mutation, start = by_file[path].pop(), time.perf_counter()
        before, after = mutation.lines(texts[path])
        if not equivalent.isdisjoint({(path, before, after), (path, before, "*")}):
            counts["equivalent"] += 1
            continue
        fate = fate_of(path, mutation.applied(texts[path]), build, not arguments.calls)
        counts[fate] += 1
        took = time.perf_counter() - start
        print(f"{fate:10} {took:4.0f} s  {path}:{mutation.number_of_line(texts[path])}  {before}  ->  {after}", flush=True)
    print(", ".join(f"{n} {fate}" for fate, n in sorted(counts.items())))
    return int(counts["survived"] + counts["untested"] + counts["not told"] > 0)


if __name__ == "__main__":
    sys.exit(main())
