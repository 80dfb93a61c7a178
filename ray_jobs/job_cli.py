"""The command line every job shares: YAML file, `key=value` overrides, `--smoke`, `--dry-run`, help from the config.

    python ray_jobs/train.py experiments/standard.yaml training.epochs=20 store=runs/store

Exit codes: 0 done, 1 done but something failed (the summary names it), 2 wrong configuration, nothing was started,
130 interrupted (Ctrl-C), 143 terminated (SIGTERM, `ray job stop`).
"""

import dataclasses
import logging
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TypeVar

import typer

from analysis.results import ResultsError
from s3pot import yaml12
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import ConfigError, apply_overrides, describe, load_yaml, parse, to_mapping
from s3pot.images import ImageError
from s3pot.places import Place, is_uri
from s3pot.store.prompt_store import StoreError

ConfigT = TypeVar("ConfigT")
Command = Callable[..., None]

# Sentences for the user: a stack trace would add nothing.
_EXPECTED = (ConfigError, FileNotFoundError, StoreError, WeightsError, ImageError, ResultsError)


class PartlyFailed(RuntimeError):
    """The job ran to its end, but some images or trials failed; the message is the one-line summary."""


def job_command(
    config_class: type[ConfigT],
    run: Callable[[ConfigT], Any],
    smoke: Mapping[str, Any],
    summary: str,
    plan: Callable[[ConfigT], list[str]] | None = None,
    positional: str | None = None,
) -> Command:
    """Make the command of a job.

    Args:
        config_class: typed configuration of the job.
        run: the job itself.
        smoke: dotted keys that make it tiny, for `--smoke`.
        summary: first paragraph of the help.
        plan: says in lines what the run would do and cost; `--dry-run` adds them as comments.
        positional: key of an argument that is neither a YAML file nor `key=value`; None = there is none such.
    """
    metavar = f"{f'[{positional.upper()}] ' if positional else ''}[FILE.yaml] [key=value ...]"

    def command(
        arguments: Annotated[
            list[str] | None, typer.Argument(metavar=metavar, help="Experiment and overrides.")
        ] = None,
        smoke_run: Annotated[bool, typer.Option("--smoke", help="Tiny run that proves the plumbing.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")] = False,
    ) -> None:
        setup_logging()
        try:
            config = resolve(config_class, arguments or [], smoke if smoke_run else {}, positional)
            if dry_run:
                sys.stdout.write(yaml12.dump(to_mapping(config)))
                sys.stdout.writelines(f"# {line}\n" for line in (plan(config) if plan else []))
                return
        except (ConfigError, FileNotFoundError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error
        try:
            with _stoppable():
                run(config)
        except _EXPECTED as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error
        except PartlyFailed as error:
            typer.echo(f"failed in part: {error}", err=True)
            raise typer.Exit(1) from error
        except Stopped as stop:
            typer.echo(f"{stop}: what is finished is kept; run the same command again to go on", err=True)
            raise typer.Exit(stop.exit_code) from stop

    command.__doc__ = _unwrapped(f"{summary.strip()}\n\nKeys:\n{key_help(config_class)}")
    return command


class Stopped(RuntimeError):
    """Somebody stopped the job."""

    def __init__(self, number: int) -> None:
        super().__init__("terminated" if number == signal.SIGTERM else "interrupted")
        self.exit_code = 128 + number


@contextmanager
def _stoppable() -> Iterator[None]:
    """Unwind the job on Ctrl-C and SIGTERM alike, so that its run is closed.

    Raises:
        Stopped: when either came.
    """
    received: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        received.append(number)
        # Inside a call of Ray, any exception of a handler would come out as this one.
        raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        if in_main_thread:
            signal.signal(signal.SIGTERM, terminate)
        yield
    except (KeyboardInterrupt, SystemExit) as stop:  # on Ctrl-C, Ray Train leaves with the latter, and 0
        raise Stopped(received[0] if received else signal.SIGINT) from stop
    finally:
        if in_main_thread:
            for number, handler in before:
                signal.signal(number, handler)


def run_alone(command: Command) -> None:
    """Run one job's command as a program of its own."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(command)
    app()


def _unwrapped(text: str) -> str:
    # Click joins the lines of a paragraph unless it starts with this mark.
    return "\n\n".join(f"\b\n{paragraph}" for paragraph in text.split("\n\n"))


def resolve(
    config_class: type[ConfigT], arguments: list[str], smoke: Mapping[str, Any], positional: str | None = None
) -> ConfigT:
    """Merge YAML files, smoke settings and overrides, in this order, and check the result.

    Raises:
        ConfigError: naming every problem.
    """
    given = [argument for argument in arguments if positional and _is_plain(argument)]
    arguments = [argument for argument in arguments if argument not in given]
    files = [argument for argument in arguments if "=" not in argument]
    overrides = [argument for argument in arguments if "=" in argument]
    mapping: dict[str, Any] = {}
    for file in files:
        mapping |= load_yaml(file)
    settings = [f"{key}={yaml12.dump(value, inline=True).strip()}" for key, value in smoke.items()]
    mapping = apply_overrides(mapping, [*settings, *overrides])
    if len(given) > 1:
        glob = f"'{Path(given[0]).parent}/*{Path(given[0]).suffix}'"
        problem = f"one {positional} is taken, got {len(given)}: name their folder, or quote a glob, such as {glob}"
        raise ConfigError("command line", [problem])
    if positional and given:
        mapping[positional] = given[0]  # as it is: YAML would make a number of the folder 2024
    return parse(config_class, mapping, where=" ".join([*given, *arguments]) or "defaults")


def _is_plain(argument: str) -> bool:
    """Say whether an argument is neither a YAML file nor `key=value`; a URI with options and a path may hold a `=`."""
    return not argument.endswith((".yaml", ".yml")) and re.match(r"[\w.]+=", argument) is None


def key_help(config_class: type[Any]) -> str:
    """List every key with type, default and meaning, one per line."""
    lines = []
    for entry in describe(config_class):
        lines.append(f"  {entry.key}   {entry.type}, default {entry.default}")
        lines += textwrap.wrap(entry.doc, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def setup_logging() -> None:
    """Log progress to standard error, one line each: readable in a terminal and in the log of a Ray job."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("alembic", "mlflow", "ray.data", "ray.tune", "ray.train"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of every retry, with the whole address; that MLflow is away is said once, by ourselves.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def absolute(path: Path) -> Path:
    """Make a path absolute, `~` included."""
    return Path(os.path.abspath(path.expanduser()))


def absolute_place(place: str) -> Place:
    """Make a path absolute; a URI stays."""
    return Place(place if is_uri(place) else absolute(Path(place)))


def with_absolute_paths(config: ConfigT) -> ConfigT:
    """Make every path of a configuration absolute: Ray workers run in folders of their own."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    changed = {
        name: _absolute(value)
        for name, value in values.items()
        if isinstance(value, Path | Place) or dataclasses.is_dataclass(value)
    }
    return dataclasses.replace(config, **changed)


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return absolute(value)
    return absolute_place(value) if isinstance(value, Place) else with_absolute_paths(value)
