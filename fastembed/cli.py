"""The command line: ``python -m fastembed train | sample | neighbors | bench | info``."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import os
import random
import shlex
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, NoReturn, TextIO

from . import _runtime, _version
from ._threads import get_num_threads
from .io import checkpoint
from .microgpt.model import GPT, Tokenizer
from .microgpt.training import Options, Run, load_model


class UsageError(ValueError):
    """The arguments of a command ask for something that cannot be done."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _at_least(minimum: float, kind: type, *, excluded: bool = False) -> Any:
    """An argparse type: a finite number of at least `minimum`, or above it (`excluded`)."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not minimum <= value < math.inf or (excluded and value == minimum):
            noun = "an integer" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {noun} {'above' if excluded else 'of at least'} {minimum}, got {text!r}")
        return value

    return parse


def _parser() -> _Parser:
    parser = _Parser("fastembed", description="The embedding layer on the CPU, and microgpt's model around it.")
    parser.add_argument("--version", action="version", version=f"fastembed {_version.VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train the model on a text file, one document a line")
    train.add_argument("file", nargs="?", metavar="FILE", help="UTF-8 text (default: the embedded names)")
    length = _at_least(1, int)
    rate = _at_least(0, float)
    for name, kind, text in (
        ("steps", length, "steps of training, one document each"),
        ("seed", int, "of the generator"),
        ("block-size", length, "positions"),
        ("n-embd", length, "width of the rows"),
        ("n-head", length, "attention heads"),
        ("n-layer", _at_least(0, int), "transformer layers"),
        ("dtype", str, "float64 or float32"),
        ("lr", rate, "learning rate of the first step"),
    ):
        default = getattr(Options, name.replace("-", "_"))
        choices = ("float64", "float32") if name == "dtype" else None
        train.add_argument(f"--{name}", type=kind, choices=choices, default=None, help=f"{text} (default: {default})")
    train.add_argument("--stop-at", type=length, metavar="N", help="stop after N of the steps, to resume later")
    train.add_argument("--resume", metavar="CHECKPOINT", help="go on from a checkpoint, with its options and its data")
    train.add_argument("--out", default="model.safetensors", metavar="PATH", help="the checkpoint (default: %(default)s)")
    train.add_argument("--losses", metavar="PATH", help="write the loss of each step taken here, one a line")
    _add_sampling(train)

    sample = commands.add_parser("sample", help="draw documents from a trained model")
    sample.add_argument("checkpoint", metavar="CHECKPOINT")
    sample.add_argument("--seed", type=int, help="of the generator (default: go on from where training left it)")
    _add_sampling(sample)

    near = commands.add_parser("neighbors", help="tokens with similar rows, by cosine")
    near.add_argument("checkpoint", metavar="CHECKPOINT")
    near.add_argument("token", nargs="?", metavar="TOKEN", help="a character, or <BOS> (default: every token)")
    near.add_argument("-k", type=length, default=5, help="how many (default: %(default)s)")

    _add_bench(commands.add_parser("bench", help="time fastembed against the peers that are installed"))
    info = commands.add_parser("info", help="versions, backend, instruction set, threads; or what is in a checkpoint")
    info.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="a safetensors file, of any origin")
    return parser


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


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=_at_least(0, int), default=20, help="documents to draw (default: %(default)s)")
    temperature = _at_least(0, float, excluded=True)
    parser.add_argument("--temperature", type=temperature, default=0.5, help="lower is safer (default: %(default)s)")


def _new_run(arguments: argparse.Namespace) -> Run:
    """A new run, or that of a checkpoint, whose options the arguments must not contradict."""
    given = {field.name: getattr(arguments, field.name) for field in fields(Options)}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.resume is None:
        return Run(Options(**given), arguments.file)
    run = Run.resume(arguments.resume, arguments.file)
    for name, value in given.items():
        if value != getattr(run.options, name):
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} {value} contradicts {arguments.resume}, which has {getattr(run.options, name)}")
    return run


def _progress(losses: Iterable[float], first: int, total: int) -> Iterator[float]:
    """Yield the losses, showing progress on stderr.

    On a terminal, if tqdm is installed, it is a progress bar, else a line every 100 steps.
    """
    bar = None
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            bar = tqdm(total=total, initial=first, unit="step")
    began = time.perf_counter()
    recent: list[float] = []
    for step, loss in enumerate(losses, first + 1):
        recent = [*recent[-99:], loss]
        if bar is not None:
            bar.set_postfix(loss=f"{_mean(recent):.3f}", refresh=False)
            bar.update()
        elif step % 100 == 0 or step == total:
            rate = (step - first) / (time.perf_counter() - began)
            try:
                print(f"step {step:5d} / {total}  loss {_mean(recent):.3f}  {rate:.0f} steps/s", file=sys.stderr, flush=True)
            except OSError:  # stderr is a closed pipe: train on without progress
                _redirect_to_null(sys.stderr)
        yield loss
    if bar is not None:
        bar.close()


def _train(arguments: argparse.Namespace) -> None:
    _check_outputs(arguments)
    run = _new_run(arguments)
    total = run.options.steps
    stop_at = total if arguments.stop_at is None else arguments.stop_at
    if not run.step <= stop_at <= total:
        raise UsageError(f"--stop-at must be between the steps taken, {run.step}, and --steps {total}, got {stop_at}")
    print(f"{len(run.documents)} documents, {run.tokenizer.vocab_size} tokens, {run.model.emb!r}", flush=True)
    losses = list(_progress(run.train(stop_at), run.step, total))
    run.save(arguments.out)
    if arguments.losses is not None:
        _write_losses(arguments.losses, losses)
    if losses:
        print(f"mean loss: {_mean(losses[:10]):.2f} over the first 10 steps, {_mean(losses[-100:]):.2f} over the last 100")
    if run.step < total:
        resume = f"python -m fastembed train --resume {shlex.quote(arguments.out)}"
        print(f"stopped at step {run.step} of {total}; go on with: {resume} --out PATH")
    else:
        _show_samples(run.model, run.tokenizer, run.rng, arguments)
        print("nearest neighbours (cosine of token rows):")
        for token_id in range(min(3, run.tokenizer.vocab_size)):
            _show_neighbors(run.model, run.tokenizer, token_id, 5)
    print(f"checkpoint: {arguments.out}")


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Check, before the training, that its files can be written and are not the same file."""
    named = {"FILE": arguments.file, "--out": arguments.out, "--losses": arguments.losses}
    paths = {name: os.path.realpath(path) for name, path in named.items() if path is not None}
    for one, other in itertools.combinations(paths, 2):
        if paths[one] == paths[other]:
            raise UsageError(f"{one} and {other} are the same file, {named[one]}")
    checkpoint.writable_path(arguments.out)
    if arguments.losses is not None:
        _write_losses(arguments.losses, [])


def _write_losses(path: str, losses: Sequence[float]) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"{loss!r}\n" for loss in losses)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write the losses to {path!r}: {error}") from error


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _show_samples(model: GPT, tokenizer: Tokenizer, rng: random.Random, arguments: argparse.Namespace) -> None:
    for k in range(arguments.samples):
        print(f"sample {k + 1:2d}: {model.sample(tokenizer, rng, arguments.temperature)}")


def _show_neighbors(model: GPT, tokenizer: Tokenizer, token_id: int, k: int) -> None:
    found = model.emb.nearest(token_id, min(k, tokenizer.vocab_size - 1), exclude_queries=True)
    pairs = zip(found.ids.tolist(), found.scores.tolist(), strict=True)
    print(f"{tokenizer.name(token_id)}: " + "  ".join(f"{tokenizer.name(i)} {cosine:+.2f}" for i, cosine in pairs))


def _sample(arguments: argparse.Namespace) -> None:
    model, tokenizer, rng = load_model(arguments.checkpoint)
    _show_samples(model, tokenizer, rng if arguments.seed is None else random.Random(arguments.seed), arguments)


def _neighbors(arguments: argparse.Namespace) -> None:
    model, tokenizer, _ = load_model(arguments.checkpoint)
    token_ids = range(tokenizer.vocab_size) if arguments.token is None else [tokenizer.id_of(arguments.token)]
    for token_id in token_ids:
        _show_neighbors(model, tokenizer, token_id, arguments.k)


def _info(arguments: argparse.Namespace) -> None:
    if arguments.checkpoint is None:
        _runtime.show_runtime()
        return
    found, description = checkpoint.statistics(arguments.checkpoint)
    about = description if isinstance(description, dict) else {"description": description}
    for key, value in about.items():
        print(f"{_plain(key)}: {textwrap.shorten(json.dumps(value), 100, placeholder=' ...')}")
    for name, what in found.items():
        print(f"{_plain(name)}: " + str(what).replace("\n", "\n  "))


def _plain(name: str) -> str:
    """A name from a file, escaped so that it is on one line whatever it contains."""
    return json.dumps(name)[1:-1]


def _bench(arguments: argparse.Namespace) -> None:
    from . import bench  # imported by this command alone, so that the others start faster

    if arguments.list:
        print(bench.listing())
        return
    plan = bench.Plan(
        _known("workload", arguments.workloads or bench.USUAL, bench.WORKLOADS),
        _known("peer", arguments.peers, bench.PEERS),
        _thread_counts(arguments.threads),
        arguments.runs or (3 if arguments.quick else 11),
        arguments.quick,
    )
    bench.check_outputs(arguments.json, arguments.plot)
    results = bench.run(plan, _show_progress)
    print(bench.as_text(results, plan))
    bench.write_outputs(results, plan, arguments.json, arguments.plot)
    wrong = bench.wrong_answers(results)
    if wrong:
        raise UsageError(f"fastembed gave no right answer in {'; '.join(wrong)}")


def _show_progress(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _known(kind: str, names: Sequence[str], known: Iterable[str]) -> list[str]:
    """The names without repeats; "all" stands for every known name."""
    every = list(known)
    for name in names:
        if name not in (*every, "all"):
            raise UsageError(f"unknown {kind} {name!r}; there are: {', '.join([*every, 'all'])}")
    return list(dict.fromkeys(every if "all" in names else names))


def _thread_counts(words: Sequence[str]) -> list[int]:
    most = get_num_threads()
    counts = []
    for word in words:
        if word != "all" and not (word.isascii() and word.isdigit() and 1 <= int(word) <= 1024):
            raise UsageError(f"--threads must be numbers from 1 to 1024, or all, got {word!r}")
        counts.append(most if word == "all" else int(word))
    return list(dict.fromkeys(counts))


def _redirect_to_null(stream: TextIO) -> None:
    """Redirect a stream whose pipe is closed to the null device.

    What is buffered in it is still written at exit, and must not fail there.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_COMMANDS = {"train": _train, "sample": _sample, "neighbors": _neighbors, "bench": _bench, "info": _info}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    It is 0, or 2 after an error, which is one line on stderr, or 130 after an interrupt.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # escapes what the terminal's encoding lacks
    arguments = _parser().parse_args(argv)
    try:
        _COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # such as head, which closes the pipe when it has its lines
        _redirect_to_null(sys.stdout)
    except KeyboardInterrupt:
        print(f"fastembed {arguments.command}: interrupted, nothing is saved", file=sys.stderr)
        return 130
    except (OSError, ValueError, MemoryError, ImportError) as error:
        message = " ".join(str(error).split())
        print(f"fastembed {arguments.command}: error: {message or type(error).__name__}", file=sys.stderr)
        return 2
    return 0
