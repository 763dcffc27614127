"""`tune`: settings for one shop in a given time, judged on the end of its training log and on nothing later.

The view is cut in time: every trial trains on what lies before the cut and is judged by the purchase-intent hit rate of
what lies after it, averaged over three lengths of lists, so that neither the first places nor breadth alone decides.
Trial 0 is the settings as given; the others are proposed by Optuna's tree-structured Parzen estimator.

A proposal follows from the finished trials and the seed alone, and every finished trial is on the disk before the next
begins. So a tuning that was killed proposes again what it was trying, goes on from that training's checkpoint, and ends
as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text
from threadpoolctl import threadpool_limits

import endcap
from endcap import models
from endcap.answers import Items, RelatesItems
from endcap.artefact import disk_full_named, exclusive
from endcap.errors import DiskFull, EndcapError, InputError
from endcap.evaluate.purchase_intent import question, question_name
from endcap.metrics import Interval, events_to_judge_by, intent_cases, intent_lengths, paired_bootstrap, purchase_intent
from endcap.models import Model
from endcap.models.checkpoint import Checkpoint
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.progress import progress
from endcap.shop import Shop

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST_TRIALS = 2
MOST_TRIALS = 200  # beyond these a quick system learns the validation part by heart
DRAWN_BY_CHANCE = 5  # trials before anything is concluded from them: a tuning has minutes
ASKED_FOR_NEWS = 50  # proposals of each sampler before everything counts as tried
DIGITS = 3  # of a proposed number: what a person can read, and no metric can tell from more
MOST_ROWS = 20
KEPT_OF_A_TRIAL = ("number", "settings", "value", "seconds", "failure")  # in a manifest: not what it found
FAILURES = (EndcapError, ArithmeticError, MemoryError, RuntimeError, ValueError)  # what settings can bring about


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One try of settings.

    Attributes:
        number: 0 is the settings as given; settings: those that were searched, none for trial 0.
        value: the objective, between 0 and 1; None where it failed, and `failure` says why.
        seconds: it took, training and judging.
        found: for each target a digit, in the lists of how many lengths it stands; none where it failed.
    """

    number: int
    settings: dict[str, Any]
    value: float | None
    seconds: float
    failure: str = ""
    found: str = ""


@dataclass(frozen=True)
class TuneReport:
    """What was tried and what is best.

    Attributes:
        start: all settings of trial 0; fixed: the names of those that were given and therefore not searched.
        trials: in the order they were tried; objective: what they were judged by, in words.
        validation: the part of the log they were judged on; targets: how many carts and purchases it asked about.
        gain: how much higher the best value is than that of the settings as given, with its 95 % interval over people.
    """

    system: str
    start: Mapping[str, Any]
    fixed: Sequence[str]
    space: SearchSpace
    trials: Sequence[Trial]
    objective: str
    validation: str
    targets: int
    gain: Interval
    budget_s: float
    seed: int

    @property
    def best(self) -> Trial:
        """The trial with the highest value; of equals the earliest."""
        return max(self.trials, key=_value)

    @property
    def settings(self) -> dict[str, Any]:
        """The best settings: those that were given, and those that were found."""
        return {name: self.start[name] for name in self.fixed} | self.best.settings

    def model(self) -> Model:
        """An untrained model with the best settings; its folder will say how they were found."""
        model = models.create(self.system, self.settings)
        model.tuning = self.to_dict()
        return model

    def to_dict(self) -> dict[str, Any]:
        """Everything, for a manifest or a script."""
        return {
            "objective": self.objective,
            "validation": self.validation,
            "targets": self.targets,
            "budget_s": self.budget_s,
            "seed": self.seed,
            "fixed": {name: self.start[name] for name in self.fixed},
            "space": {name: str(where) for name, where in self.space.items()},
            "trials": [{name: getattr(trial, name) for name in KEPT_OF_A_TRIAL} for trial in self.trials],
            "best": self.best.number,
            "best_value": self.best.value,
            "gain": self.gain._asdict(),
            "settings": self.settings,
        }

    def print(self, console: Console | None = None) -> None:
        """The trials, best first, with the settings that differ from those given; then what was chosen."""
        console = console or Console()
        if not console.is_terminal:
            console = Console(file=console.file, width=160)
        ranked = sorted(self.trials, key=_value, reverse=True)
        shown = [trial for rank, trial in enumerate(ranked) if rank < MOST_ROWS or trial.number == 0]
        console.print(f"{self.system}: {self.objective}, on {self.validation}", highlight=False, soft_wrap=True)
        table = Table()
        for name in ("rank", "trial", "%", "seconds"):
            table.add_column(name, justify="right")
        table.add_column("settings")
        for trial in shown:
            rank = "" if trial.value is None else str(ranked.index(trial) + 1)
            value = "-" if trial.value is None else f"{100 * trial.value:.2f}"
            table.add_row(rank, str(trial.number), value, f"{trial.seconds:.1f}", Text(self._described(trial)))
        console.print(table)
        if len(shown) < len(ranked):
            console.print(f"{len(ranked) - len(shown)} more trials in the manifest of the model", highlight=False)
        failed = [trial for trial in self.trials if trial.value is None]
        if failed:
            text = f"{len(failed)} of {len(ranked)} trials failed, the last one because: {failed[-1].failure}"
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        console.print(self._verdict(), highlight=False, markup=False, soft_wrap=True)

    def _described(self, trial: Trial) -> str:
        differs = {name: value for name, value in trial.settings.items() if value != self.start[name]}
        text = " ".join(f"{name}={_written(value)}" for name, value in differs.items()) or "as given"
        return f"{text} (failed)" if trial.value is None else text

    def _verdict(self) -> str:
        given, best = self.trials[0], self.best
        if best is given:
            return f"chosen: the settings as given, the best of {len(self.trials)} trials on {self.targets:,} targets"
        gain, low, high, _ = (100 * figure for figure in self.gain)
        return (
            f"chosen: trial {best.number}, {self._described(best)}: {100 * _value(best):.2f} % on validation, "
            f"{100 * _value(given):.2f} % as given, {gain:+.2f} points [{low:+.2f}, {high:+.2f}] on {self.targets:,} "
            f"targets{'' if low > 0 else '; the interval covers 0: no difference is shown'}"
        )


def tune(
    system: str,
    shop: Shop,
    *,
    budget_s: float,
    settings: Mapping[str, Any] | None = None,
    space: SearchSpace | None = None,
    validation: str | float = "0.1",
    seed: int = 0,
    threads: int = 1,
    folder: str | Path | None = None,
    show: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> TuneReport:
    """Try settings of a system on a view of a shop for some time; the settings as given are always among them.

    Trials begin as long as one of median length ends within the budget, two at least and 200 at most. A trial that
    fails is kept with its reason.

    Args:
        budget_s: seconds for all trials; training the chosen settings on the whole view comes on top.
        settings: these stay as they are and are not searched.
        space: where to search; None: where the system says.
        validation: the last part of the view, "7d" of the time or 0.1 of the events, that trials are judged on.
        folder: where finished trials are kept, so that the same call goes on from them; None: nowhere.
        clock: seconds that trials are timed by.

    Raises:
        InputError: for an unknown system or setting, a system with nothing to search, a budget that is none, or a log
            without anything to judge by; DiskFull: if there is no room for what is kept; EndcapError: if another
            process is tuning in the folder, or whatever keeps the settings as given from being trained.
    """
    if not budget_s > 0:
        raise InputError(f"a tuning budget of {budget_s} s: some time is needed")
    given = dict(settings or {})
    start = msgspec.to_builtins(models.create(system, given).config)
    searched = _searched(system, given, space)
    judge = Judge(shop, validation)
    key = _key(system, start, sorted(given), searched, str(validation), seed, shop.fingerprint())
    kept_in = None if folder is None else Path(folder)
    checkpoint = kept_in / "training" if kept_in else None
    with _journal(kept_in, key) as journal, progress(f"tuning {system}", budget_s, shown=show) as bar:
        bar.advance(sum(trial.seconds for trial in journal.trials))
        while _is_time_left(journal.trials, budget_s):
            tried = propose(searched, start, journal.trials, seed) if journal.trials else {}
            if tried is None:
                break
            begun = clock()
            how = {"seed": seed, "threads": threads, "checkpoint": checkpoint}
            found, failure = judge.try_out(system, {**given, **tried}, how, must_work=not journal.trials)
            seconds = round(clock() - begun, 3)
            journal.add(
                Trial(
                    number=len(journal.trials),
                    settings=tried,
                    value=None if failure else judge.value(found),
                    seconds=seconds,
                    failure=failure,
                    found="".join(map(str, found)),
                )
            )
            Checkpoint(checkpoint, {}).remove()
            bar.advance(seconds, f"{len(journal.trials)} trials, best {100 * max(map(_value, journal.trials)):.2f} %")
    return TuneReport(
        system=system,
        start=start,
        fixed=sorted(given),
        space=searched,
        trials=tuple(journal.trials),
        objective=judge.objective,
        validation=judge.span,
        targets=judge.cases.n_targets,
        gain=judge.gain(max(journal.trials, key=_value), journal.trials[0]),
        budget_s=budget_s,
        seed=seed,
    )


def _searched(system: str, given: Mapping[str, Any], space: SearchSpace | None) -> SearchSpace:
    """The space without the settings that are given, its ends checked."""
    whole = models.create(system).search_space if space is None else space
    searched = {name: where for name, where in whole.items() if name not in given}
    for name, where in searched.items():
        for end in where.ends:
            models.create(system, {name: end})
    if searched:
        return searched
    if whole:
        raise InputError(f"{system}: nothing is left to tune, all of {', '.join(whole)} are given")
    tunable = [name for name in models.SYSTEMS if models.create(name).search_space]
    raise InputError(f"{system} has no settings worth tuning; these systems have: {', '.join(tunable)}")


def _is_time_left(trials: Sequence[Trial], budget_s: float) -> bool:
    if len(trials) < FEWEST_TRIALS:
        return True
    seconds = [trial.seconds for trial in trials]
    return len(trials) < MOST_TRIALS and sum(seconds) + median(seconds) <= budget_s


def _value(trial: Trial) -> float:
    return -1.0 if trial.value is None else trial.value


def _written(value: Any) -> str:
    """A value as `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- judging -----------------------------------------------------------------------------------------------------------


class Judge:
    """The end of a log, held back from every trial, and what is asked about it.

    Args:
        shop: the training view; part: its last "7d" of the time, or 0.1 of its events.

    Raises:
        InputError: if one part is empty, or nobody carted or bought after a look in the part that is held back.
    """

    def __init__(self, shop: Shop, part: str | float) -> None:
        self.before, after = shop.split_by_time(part)
        self.asked = question(self.before)
        events = after.some_people(events_to_judge_by(self.before.n_items)).positives
        self.cases = intent_cases(
            events.session, events.item, events.interaction, self.asked.source, self.asked.intents
        )
        name = question_name(self.before, self.asked)
        if self.cases.n_targets == 0:
            raise InputError(f"tuning: no session in the last {part} of the log has {name}, so nothing can be judged")
        self.lengths = intent_lengths(self.before.n_items)
        self.objective = f"mean purchase intent {name} at {', '.join(map(str, self.lengths))}"
        self.span = after.span_text()
        self.people = events.user[self.cases.target_row]

    def try_out(
        self, system: str, settings: Mapping[str, Any], how: Mapping[str, Any], *, must_work: bool
    ) -> tuple[NDArray[np.int8], str]:
        """What a system with these settings finds; nothing where they cannot be trained, and the reason.

        Args:
            how: arguments of `Model.fit`; must_work: raise the cause instead.
        """
        try:
            model = models.create(system, settings).fit(self.before, **how)
            return self.found(model, threads=how["threads"]), ""
        except FAILURES as error:
            if must_work or isinstance(error, DiskFull):
                raise
            return np.empty(0, np.int8), str(error) or type(error).__name__

    def found(self, model: RelatesItems, *, threads: int) -> NDArray[np.int8]:
        """For each target, (targets,), how many of the lengths of lists hold it."""

        def lists(items: Items, seen_as: int) -> Items:
            return model.related_batch(items, seen_as, self.asked.want, self.lengths[-1])[0]

        with threadpool_limits(threads, "blas"):
            return purchase_intent(self.cases, lists, self.lengths).sum(axis=1, dtype=np.int8)

    def value(self, found: NDArray[np.int8]) -> float:
        """The share of the targets that stand in the lists, averaged over the lengths."""
        return float(found.mean()) / len(self.lengths)

    def gain(self, better: Trial, worse: Trial) -> Interval:
        """The difference of two trials' values, with its paired interval over people."""
        ours, theirs = (np.array(list(trial.found), np.float64) / len(self.lengths) for trial in (better, worse))
        return paired_bootstrap(ours, theirs, self.people)


# -- proposing ---------------------------------------------------------------------------------------------------------


def propose(space: SearchSpace, start: Mapping[str, Any], trials: Sequence[Trial], seed: int) -> dict[str, Any] | None:
    """The next settings to try, which follow from the arguments alone; None if nothing new comes to mind.

    Args:
        start: the settings of trial 0.
    """
    import optuna

    tried = [{name: {**start, **trial.settings}[name] for name in space} for trial in trials]
    chance = int(np.random.default_rng([seed, len(trials)]).integers(2**32))
    samplers = (
        optuna.samplers.TPESampler(n_startup_trials=DRAWN_BY_CHANCE, seed=chance, constant_liar=False),
        optuna.samplers.RandomSampler(seed=chance),  # where the other one sees nothing but what was tried
    )
    with _quiet(optuna.logging):
        study = optuna.create_study(direction="maximize")
        distributions = {name: _distribution(where) for name, where in space.items()}
        for trial, settings in zip(trials, tried, strict=True):
            inside = {name: value for name, value in settings.items() if space[name].holds(value)}
            known = {name: distributions[name] for name in inside}
            value = trial.value or 0.0  # a failure found nothing; left out, its like would be proposed again and again
            study.add_trial(optuna.trial.create_trial(params=inside, distributions=known, value=value))
        for sampler in samplers:
            study.sampler = sampler
            for _ in range(ASKED_FOR_NEWS):
                proposed = {name: _rounded(value) for name, value in study.ask(distributions).params.items()}
                if proposed not in tried:
                    return proposed
    return None


def _distribution(where: Range | OneOf) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(where, OneOf):
        return CategoricalDistribution(where.values)
    if where.is_whole:
        return IntDistribution(int(where.low), int(where.high), log=where.log)
    return FloatDistribution(where.low, where.high, log=where.log)


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Optuna reports every step on stderr; what there is to say stands in the table."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


# -- keeping -----------------------------------------------------------------------------------------------------------


class Journal:
    """The finished trials, a line of JSON each, on the disk before the next one begins; without a path in memory only.

    A line that a sudden end has torn is cut off with whatever follows it, or the next line would be glued to it.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.trials = path, list[Trial]()
        if path is not None and path.exists():
            whole = 0
            for line in path.read_bytes().splitlines(keepends=True):
                trial = _decoded(line)
                if trial is None or trial.number != len(self.trials):
                    break
                self.trials.append(trial)
                whole += len(line)
            os.truncate(path, whole)

    def add(self, trial: Trial) -> None:
        """Keep one more trial."""
        self.trials.append(trial)
        if self.path is not None:
            with disk_full_named(self.path), self.path.open("ab") as file:
                file.write(msgspec.json.encode(trial) + b"\n")
                file.flush()
                os.fsync(file.fileno())


@contextmanager
def _journal(folder: Path | None, key: str) -> Iterator[Journal]:
    """The journal of one tuning in a folder that no other process tunes in; settings that cannot be tried leave none.

    Raises:
        EndcapError: if another process is at work there.
    """
    if folder is None:
        yield Journal(None)
        return
    with exclusive(folder, "a tuning"):
        try:
            yield Journal(folder / f"{key}.jsonl")
        except EndcapError:
            if not any(folder.glob("*.jsonl")):
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _decoded(line: bytes) -> Trial | None:
    """The trial of a whole line, None for anything else."""
    try:
        return msgspec.json.decode(line, type=Trial) if line.endswith(b"\n") else None
    except msgspec.DecodeError:
        return None


def _key(*parts: Any) -> str:
    """What a tuning depends on, as one word: another key begins anew."""
    return hashlib.sha256(json.dumps([endcap.__version__, *parts], default=str).encode()).hexdigest()[:32]
