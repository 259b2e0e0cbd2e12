"""The arguments of the commands: those of one are added when it is run, and its imports made."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

from .. import _version
from .._messages import shown
from .streams import warn

_KINDS = ("overview", "rows", "positions", "norms", "lookups", "losses")  # of pictures


class _Parser(argparse.ArgumentParser):
    """A parser whose arguments a function adds when the first are to be parsed."""

    def __init__(self, *arguments: Any, add: Callable[[argparse.ArgumentParser], None] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._add = add

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        add, self._add = self._add, None
        if add is not None:
            add(self)
        return super().parse_known_args(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        warn(f"{self.prog}: error: {message} (see {self.prog} --help)")
        self.exit(2)


def _at_least(minimum: float, kind: type, *, excluded: bool = False) -> Any:
    """An argparse type: a finite number of at least `minimum`, or above it (`excluded`)."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not minimum <= value < math.inf or (excluded and value == minimum):
            noun = "an integer" if kind is int else "a number"
            limit = f"{noun} {'above' if excluded else 'of at least'} {minimum}"
            raise argparse.ArgumentTypeError(f"must be {limit}, got {shown(text)}")
        return value

    return parse


_LENGTH = _at_least(1, int)


def _at_most(maximum: int) -> Any:
    """An argparse type: a length up to a limit."""

    def parse(text: str) -> Any:
        if _LENGTH(text) > maximum:
            raise argparse.ArgumentTypeError(f"must be at most {maximum}, got {shown(text)}")
        return int(text)

    return parse


def parser(*, is_complete: bool = False) -> argparse.ArgumentParser:
    """The parser of all commands; each gets its arguments when it is used, or all of them now."""
    program = _Parser("fastembed", description="The embedding layer on the CPU, and microgpt's model around it.")
    program.add_argument("--version", action="version", version=f"fastembed {_version.VERSION}")
    commands = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add, text in (
        ("train", _add_train, "train the model on a text file, one document a line"),
        ("sample", _add_sample, "draw documents from a trained model"),
        ("neighbors", _add_neighbors, "tokens with similar rows, by cosine"),
        ("convert", _add_convert, "vectors from one format to another"),
        ("plot", _add_plot, "draw the tables of a file, or losses"),
        ("explore", _add_explore, "write a page that shows a table in a browser"),
        ("bench", _add_bench, "time fastembed against the peers that are installed"),
        ("info", _add_info, "versions, backend, instruction set, threads; or what is in a checkpoint"),
        ("shared", _add_shared, "the tables in shared memory: list them, or remove what nobody writes"),
        ("ngram", _add_ngram, "n-gram tables in files: what they are, how fast they are here"),
    ):
        command = commands.add_parser(name, help=text, add=None if is_complete else add)
        if is_complete:
            add(command)
    return program


def _add_sample(sample: argparse.ArgumentParser) -> None:
    sample.add_argument("checkpoint", metavar="CHECKPOINT")
    sample.add_argument("--prompt", default="", metavar="TEXT", help="what each document begins with")
    sample.add_argument("--json", action="store_true", help="write a JSON list of the documents")
    sample.add_argument("--seed", type=int, help="of the generator (default: go on from where training left it)")
    _add_sampling(sample)


def _add_neighbors(near: argparse.ArgumentParser) -> None:
    near.add_argument("checkpoint", metavar="FILE", help="a trained model, or vectors in any format that convert reads")
    near.add_argument("token", nargs="?", metavar="TOKEN", help="the name of a row (default: every one, of at most 1,000)")
    near.add_argument("--json", action="store_true", help="write JSON: for each token a list of pairs")
    near.add_argument("-k", type=_LENGTH, default=5, help="how many (default: %(default)s)")
    _add_table(near)


def _add_info(info: argparse.ArgumentParser) -> None:
    info.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="a safetensors file, of any origin")
    info.add_argument("--summary", action="store_true", help="shapes and numbers of parameters; no tensor is read")
    info.add_argument("--json", action="store_true", help="write JSON")


def _add_shared(shared: argparse.ArgumentParser) -> None:
    actions = shared.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="names, sizes, and whether a process writes them")
    remove = actions.add_parser("remove", help="remove tables; processes that read them keep the last rows")
    remove.add_argument("names", nargs="*", metavar="NAME", help="names, or paths with a /")
    remove.add_argument("--all", action="store_true", help="all in shared memory that no process writes")


def _add_ngram(ngram: argparse.ArgumentParser) -> None:
    whats = ngram.add_subparsers(dest="what", required=True, metavar="WHAT")
    info = whats.add_parser("info", help="the tables of a file, and its hash")
    bench = whats.add_parser("bench", help="rows a second for a text: from the disk, read ahead, in memory")
    for parser in (info, bench):
        parser.add_argument("file", metavar="FILE", help="safetensors (or the index of several), GGUF or .npy")
    bench.add_argument("text", metavar="TEXT", help="a file, whose bytes are the tokens")
    bench.add_argument("--name", action="append", help="the tensor whose rows are the table's; repeated, of several in turn")
    bench.add_argument("--scales", action="append", metavar="NAME", help="the tensor of the scales of FP8, for each --name")
    bench.add_argument("--format", help="of rows of bytes: float8_e4m3fn, q8_0, ...")
    bench.add_argument("--embedding-dim", type=_LENGTH, metavar="D", help="columns of rows of bytes")
    bench.add_argument("--config", metavar="FILE", help="config.json of the model, for the hash; needs --layer")
    bench.add_argument("--layer", type=int, help="whose table it is, of a config or a GGUF file with several")
    bench.add_argument("--cache-mb", type=_LENGTH, default=256, help="memory for rows (default: %(default)s)")
    bench.add_argument("--engine", choices=("auto", "io_uring", "pread"), default="auto", help="(default: %(default)s)")
    bench.add_argument("--buffered", action="store_true", help="through the system's page cache")
    bench.add_argument("--tokens", type=_LENGTH, default=50_000, help="at most so many (default: %(default)s)")
    bench.add_argument("--batch", type=_LENGTH, default=1024, help="tokens a call (default: %(default)s)")


def _add_train(train: argparse.ArgumentParser) -> None:
    from ..microgpt.training import Options

    train.add_argument("file", nargs="?", metavar="FILE", help="UTF-8 text (default: the embedded names)")
    for name, kind, text in (
        ("steps", _LENGTH, "steps of training; more of them extend a run that is resumed"),
        ("seed", int, "of the generator"),
        ("block-size", _LENGTH, "positions"),
        ("n-embd", _LENGTH, "width of the rows"),
        ("n-head", _LENGTH, "attention heads"),
        ("n-layer", _at_least(0, int), "transformer layers"),
        ("dtype", str, "float64 or float32"),
        ("lr", _at_least(0, float), "learning rate of the first step"),
        ("batch", _LENGTH, "documents of a step"),
    ):
        default = getattr(Options, name.replace("-", "_"))
        choices = ("float64", "float32") if name == "dtype" else None
        train.add_argument(f"--{name}", type=kind, choices=choices, default=None, help=f"{text} (default: {default})")
    train.add_argument("--mpi", action="store_true", help="share each batch among the ranks of mpiexec; needs mpi4py")
    train.add_argument("--stop-at", type=_LENGTH, metavar="N", help="stop after N of the steps, to resume later")
    train.add_argument("--save-every", type=_LENGTH, metavar="N", help="write the files after every N steps too")
    train.add_argument("--resume", metavar="CHECKPOINT", help="go on from a checkpoint, with its options and its data")
    train.add_argument("--out", default="model.safetensors", metavar="PATH", help="the checkpoint (default: %(default)s)")
    train.add_argument("--losses", metavar="PATH", help="write the loss of each step taken here, one a line")
    train.add_argument("--plot", metavar="PATH", help="draw how rows move: a .gif, or a .png, .svg or .pdf with their paths")
    _add_quiet(train)
    _add_force(train)
    _add_sampling(train)


def _add_convert(convert: argparse.ArgumentParser) -> None:
    from ..io.vectors.formats import FORMATS, SUFFIXES

    convert.add_argument("source", metavar="FROM", help="a file of vectors, or a folder of model2vec or transformers")
    convert.add_argument("target", metavar="TO", help=f"a file; its suffix, one of {', '.join(SUFFIXES)}, says the format")
    convert.add_argument("--format", choices=FORMATS, metavar="FORMAT", help="that of FROM (default: its content tells)")
    convert.add_argument("--to", choices=FORMATS, metavar="FORMAT", help=f"that of TO, one of {', '.join(FORMATS)}")
    convert.add_argument("--name", help="which tensor, array or column of FROM, if there are several")
    convert.add_argument("--dtype", choices=("float32", "float64", "float16", "bfloat16"), help="(default: that of FROM)")
    convert.add_argument("--encoding", default="utf-8", help="of the names in FROM (default: %(default)s)")
    convert.add_argument("--skip", action="store_true", help="leave out malformed lines and names that are there twice")
    convert.add_argument("--numbers-in-names", action="store_true", help="names of several words may end in a number")
    _add_quiet(convert)
    _add_force(convert)


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="show nothing but warnings and errors")


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace files that are there; each is kept as NAME.bak")


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help="which (default: all that do not take minutes; see --list)"
    )
    bench.add_argument("--list", action="store_true", help="show the workloads, and the peers with their versions")
    bench.add_argument("--peers", type=_names, default=["all"], metavar="NAME,...", help="whom to compare with (default: all)")
    bench.add_argument("--threads", type=_names, default=["1", "all"], metavar="N,...", help="settings (default: 1,all)")
    bench.add_argument("--runs", type=_at_least(1, int), help="timed calls of each contender (default: 11; 3 with --quick)")
    bench.add_argument("--quick", action="store_true", help="small sizes, to see that all works: its times mean little")
    bench.add_argument("--json", metavar="FILE", help="write all times")
    bench.add_argument("--plot", metavar="FILE.png", help="write a plot; needs matplotlib")
    _add_force(bench)


def _add_plot(plot: argparse.ArgumentParser) -> None:
    plot.add_argument("file", metavar="FILE", help="a safetensors or .npy file; with --kind losses, one of train --losses")
    plot.add_argument("--out", metavar="PATH", help="a .png, .svg or .pdf (default: FILE's name with .png, here)")
    plot.add_argument("--kind", choices=_KINDS, default="overview", help="what is drawn (default: %(default)s)")
    plot.add_argument("--losses", metavar="PATH", help="losses to add to the overview, one a line")
    plot.add_argument("--labels", type=_LENGTH, default=150, metavar="N", help="the most labels (default: %(default)s)")
    _add_table(plot)
    plot.add_argument("--dark", action="store_true", help="light on dark")
    _add_quiet(plot)
    _add_force(plot)


def _add_explore(explore: argparse.ArgumentParser) -> None:
    from ..plots.source import MAX_ROWS

    explore.add_argument("file", metavar="FILE", help="a safetensors or .npy file")
    explore.add_argument("--out", metavar="PATH", help="the page (default: FILE's name with .html, here)")
    explore.add_argument(
        "--rows",
        type=_at_most(MAX_ROWS),
        default=MAX_ROWS,
        metavar="N",
        help="the first N rows (default: %(default)s)",
    )
    explore.add_argument("--tsv", metavar="PATH", help="write all rows for the TensorBoard projector")
    explore.add_argument("--metadata", metavar="PATH", help="write their names beside --tsv")
    _add_table(explore)
    _add_quiet(explore)
    _add_force(explore)


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", metavar="NAME", help="which tensor (default: the only table, or the one of tokens)")
    parser.add_argument("--names", metavar="PATH", help="names of the rows, one a line")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=_at_least(0, int), default=20, help="documents to draw (default: %(default)s)")
    temperature = _at_least(0, float, excluded=True)
    parser.add_argument("--temperature", type=temperature, default=0.5, help="lower is safer (default: %(default)s)")
