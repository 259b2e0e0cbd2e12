"""``train``: a run that ends early, by its arguments or a signal, is saved and can be resumed."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import plots
from .._messages import shown
from ..microgpt.training import Options, Run, Saved
from .outputs import OutputFile, output_files
from .progress import mean, with_progress
from .show import names_of, show_neighbors, show_samples
from .signals import Signals
from .streams import Output, UsageError, warn
from .watch import Watch, about_documents, program, sparkline, what_next

if TYPE_CHECKING:
    from ..distributed import Group

_BEGIN = "the beginning of train --mpi"


def train(arguments: argparse.Namespace, out: Output, signals: Signals) -> None:
    """Train, save, and show samples and neighbours if the run is finished."""
    if not arguments.mpi:
        _lead(arguments, out, signals, None)
        return
    from .. import distributed

    group = distributed.mpi()
    try:
        if group.rank == 0:
            _lead(arguments, out, signals, group)
        else:
            _follow(arguments, signals, group)
    except distributed.PeerError as error:
        raise OSError(str(error)) from error


def _follow(arguments: argparse.Namespace, signals: Signals, group: Group) -> None:
    """Take the steps of rank 0 with it; it does everything else."""
    with group.all_or_none(_BEGIN):
        given = _given(arguments)
        run = _run(arguments, given, _saved(arguments, given), group)
        stop_at = _last_step(arguments, run)
    with signals.deferred():
        for _ in run.train(stop_at):
            pass


def _lead(arguments: argparse.Namespace, out: Output, signals: Signals, group: Group | None) -> None:
    """What `train` does, with the steps of other ranks, if there are any."""
    with contextlib.nullcontext() if group is None else group.all_or_none(_BEGIN):
        run, files = _prepared(arguments, group)
        stop_at = _last_step(arguments, run)
    watch = Watch(run, stop_at, with_film=arguments.plot is not None)
    out.say(about_documents(run))
    files["--out"].try_out(run.save)  # as large as the one to come: a disk that is full is found now
    with signals.deferred():
        losses = _take_steps(run, stop_at, arguments, files, signals, watch)
        try:
            _save(run, files, losses)
        except OSError as error:
            raise OSError(f"{error}; {_rescued(run, losses)}") from error
    place = f"checkpoint: {arguments.out}"
    signals.outcome = f"at step {run.step} of {run.options.steps}; {place}"
    if signals.received is not None:
        warn(f"fastembed train: {signals}")
    elif arguments.plot is not None and losses:
        watch.draw(files["--plot"], losses, quiet=arguments.quiet)
    _show_end(run, losses, files, arguments, out)
    if run.step == run.options.steps and signals.received is None:
        _show_model(run, arguments, out)
        out.show(what_next(shlex.quote(arguments.out), run))
    out.show(place)
    if arguments.plot is not None and losses and signals.received is None:
        out.show(f"picture: {arguments.plot}")


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the run that are given."""
    given = {field.name: getattr(arguments, field.name) for field in fields(Options)}
    return {name: value for name, value in given.items() if value is not None}


def _saved(arguments: argparse.Namespace, given: dict[str, Any]) -> Saved | None:
    """The run to resume."""
    return None if arguments.resume is None else _matching(Saved(arguments.resume), given)


def _run(arguments: argparse.Namespace, given: dict[str, Any], saved: Saved | None, group: Group | None) -> Run:
    if saved is None:
        return Run(Options(**given), arguments.file, group)
    return saved.run(arguments.file, given.get("steps"), group)


def _prepared(arguments: argparse.Namespace, group: Group | None) -> tuple[Run, dict[str, OutputFile]]:
    """The run and the files to write, which are checked before the run is made."""
    given = _given(arguments)
    saved = _saved(arguments, given)
    if arguments.plot is not None:
        plots.check_path("--plot", arguments.plot, (".gif", ".png", ".svg", ".pdf"))
    files = output_files(
        {"--out": arguments.out, "--losses": arguments.losses, "--plot": arguments.plot},
        {"FILE": arguments.file, "the text of --resume": None if saved is None else saved.data},
        force=arguments.force,
        resumed=arguments.resume,
    )
    return _run(arguments, given, saved, group), files


def _matching(saved: Saved, given: dict[str, object]) -> Saved:
    """A checkpoint, whose options the arguments must not contradict, except for more steps."""
    for name, value in given.items():
        known = getattr(saved.options, name)
        if value != known and not (name == "steps" and isinstance(value, int) and value > known):
            raise UsageError(f"--{name.replace('_', '-')} {shown(value)} contradicts {saved.path}, which has {known}")
    return saved


def _last_step(arguments: argparse.Namespace, run: Run) -> int:
    total = run.options.steps
    stop_at: int = total if arguments.stop_at is None else arguments.stop_at
    if not run.step <= stop_at <= total:
        raise UsageError(f"--stop-at must be between the steps taken, {run.step}, and --steps {total}, got {shown(stop_at)}")
    return stop_at


def _take_steps(
    run: Run, stop_at: int, arguments: argparse.Namespace, files: dict[str, OutputFile], signals: Signals, watch: Watch
) -> list[float]:
    """Take steps until one of them is the last, or a signal has come; the losses."""
    losses: list[float] = []
    save_every, steps = arguments.save_every, run.train(stop_at)
    progress = with_progress(steps, run.step, run.options.steps, lambda: watch.latest, quiet=arguments.quiet)
    with contextlib.closing(steps), contextlib.closing(progress):
        for loss in progress:
            losses.append(loss)
            watch.after_step()
            if signals.received is not None:
                break
            if save_every is not None and run.step % save_every == 0 and run.step < stop_at:
                try:
                    _save(run, files, losses)
                except OSError as error:  # there may be room again at the next time
                    warn(f"fastembed train: at step {run.step}: {error}; training goes on")
    return losses


def _save(run: Run, files: dict[str, OutputFile], losses: list[float]) -> None:
    """Write every file that can be written; OSError if one cannot."""
    contents: dict[str, Callable[[Path], object]] = {"--out": run.save, "--losses": partial(_write_losses, losses)}
    failed = []
    for option, content in contents.items():
        try:
            if option in files:
                files[option].write(content)
        except OSError as error:
            failed.append(str(error))
    if failed:
        raise OSError("; ".join(failed))


def _write_losses(losses: list[float], path: Path) -> None:
    path.write_text("".join(f"{loss!r}\n" for loss in losses), encoding="ascii")


def _rescued(run: Run, losses: list[float]) -> str:
    """Write the files to the folder for temporary ones instead; where they are."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="fastembed-"))
        run.save(folder / "model.safetensors")
        _write_losses(losses, folder / "losses.txt")
    except OSError as error:
        return f"nor can temporary files be written: {error}"
    return f"checkpoint and losses are in {folder}"


def _show_end(run: Run, losses: list[float], files: dict[str, OutputFile], arguments: argparse.Namespace, out: Output) -> None:
    """What the steps came to, and how to go on."""
    for file in files.values():
        for kept in file.kept:
            out.say(f"{file.path} was there: the old file is {kept}")
    if losses:
        out.say(f"mean loss: {mean(losses[:10]):.2f} over the first 10 steps, {mean(losses[-100:]):.2f} over the last 100")
        out.say(f"loss: {sparkline(losses)}")
    if run.step < run.options.steps:
        path = shlex.quote(arguments.out)
        resume = f"{program()} train --resume {path} --out {path}"
        out.say(f"stopped at step {run.step} of {run.options.steps}; go on with: {resume}")


def _show_model(run: Run, arguments: argparse.Namespace, out: Output) -> None:
    show_samples(run.model, run.tokenizer, run.rng, arguments, out)
    out.show("nearest neighbours (cosine of token rows):")
    names = names_of(run.tokenizer)
    for token_id in range(min(3, len(names))):
        show_neighbors(run.model.emb, names, token_id, 5, out)
