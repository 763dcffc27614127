"""Forgetting a person: out of the live state, the shop and the releases, in this order, safe to stop and run again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import msgspec

from endcap.artefact import read_manifest, workshop
from endcap.errors import InputError
from endcap.index import Kind
from endcap.jobs.drain import DRAINING
from endcap.jobs.publish import publish
from endcap.jobs.refresh import WORKSHOP
from endcap.release import Release, releases
from endcap.release.shelf import holding, remove
from endcap.serve.events import id_problem
from endcap.serve.state import LiveState
from endcap.shop.forget import ShopTrace, forget_in_shop, trace_in_shop
from endcap.shop.storage import only_writer


class ForgetReport(msgspec.Struct, kw_only=True):
    """What was forgotten, or with `dry_run` would be. It does not hold the id.

    Attributes:
        events, sessions, rejected: of the shop; rejected rows stay, without their text;
        old_generations: folders of the shop that held the person; recorded: events in the live state;
        releases: those that held the person and are removed; published: the release made in place of the live one;
        notes: where the person may be still, and what to do about it.
    """

    dry_run: bool = False
    events: int = 0
    sessions: int = 0
    rejected: int = 0
    old_generations: list[str] = []
    recorded: int = 0
    releases: list[str] = []
    published: str | None = None
    notes: list[str] = []
    seconds: float = 0.0


def forget(
    user: str,
    shop: str | Path,
    *,
    state: str | Path | None = None,
    to: str | Path | None = None,
    dry_run: bool = False,
    show: bool = False,
) -> ForgetReport:
    """Remove a person from a shop, from the live state of its server and from its releases.

    A running server answers as if it did not know them from the first step on. Releases that know them are removed,
    and there is no way back to these; the models of the live one are published again, as they are, over the shop
    without the person.

    Args:
        user: the id; state: the server's state file; to: the folder of releases; dry_run: only look.

    Raises:
        InputError: if nothing holds such an id, or there is no such shop, state or folder of releases;
        EndcapError: if a drain, refresh or publish is at work; run it again when that is done.
    """
    started, shop = time.monotonic(), Path(shop)
    if problem := id_problem(user, "user"):
        raise InputError(problem)
    state, to = _checked(shop, state, to)
    with nullcontext() if dry_run else _alone(shop, to), ExitStack() as opened:
        live_state = None if state is None else opened.enter_context(LiveState(state))
        found, report = _look(user, shop, live_state, to)
        report.dry_run = dry_run
        if not dry_run:
            if live_state is not None:
                _forget_live(live_state, user, found)
            if found:
                forget_in_shop(shop, user)
            if to is not None:
                report.published = _forget_releases(to, user, shop, report.releases, show=show)
    report.seconds = round(time.monotonic() - started, 2)
    return report


def _checked(shop: Path, state: str | Path | None, to: str | Path | None) -> tuple[Path | None, Path | None]:
    """The paths, all of which exist: a name mistyped must not look like a person forgotten."""
    read_manifest(shop, kind="shop")
    state, to = (None if path is None else Path(path) for path in (state, to))
    if state is not None and not state.is_file():
        raise InputError(f"{state}: no live state here; it is the file that `endcap serve --state` names")
    if to is not None:
        releases(to)
    return state, to


@contextmanager
def _alone(shop: Path, to: Path | None) -> Iterator[None]:
    """Nobody else carries the person from one place to the next, and nothing is left of who was killed doing so."""
    with ExitStack() as held:
        held.enter_context(workshop(shop / DRAINING, "recorded events of this shop"))
        if to is not None:
            held.enter_context(workshop(to / WORKSHOP, "a refresh"))
            remove(to, [])
        with only_writer(shop):  # which sweeps the shop
            pass
        yield


def _look(user: str, shop: Path, state: LiveState | None, to: Path | None) -> tuple[ShopTrace, ForgetReport]:
    """Where a person is to be found.

    Raises:
        InputError: if nowhere, and this state never forgot them.
    """
    found = trace_in_shop(shop, user)
    report = ForgetReport(
        events=found.events,
        sessions=found.sessions,
        rejected=found.rejected,
        old_generations=list(found.old_generations),
        recorded=0 if state is None else state.count_events_of(user),
        releases=[] if to is None else holding(to, user),
    )
    if not (found or report.recorded or report.releases):
        if state is None or not state.forgotten_below(user):
            places = [str(place) for place in (shop, state and state.path, to) if place]
            raise InputError(f"user {user!r}: not in {', '.join(places)}; unknown, or forgotten before")
        report.notes.append("forgotten before; nothing is left")
    elif state is None:
        report.notes.append("recorded events of a server may hold them: run this again with --state FILE")
    if to is None:
        report.notes.append("releases may hold them, and serve them: run this again with --to RELEASES")
    return found, report


def _forget_live(state: LiveState, user: str, found: ShopTrace) -> None:
    state.forget(user, below=found.n_users)
    state.scrub()


def _forget_releases(to: Path, user: str, shop: Path, known_by: list[str], *, show: bool) -> str | None:
    """Publish the live models again if their release knows the person, then remove the releases that do."""
    published = None
    current = next((info.name for info in releases(to) if info.live), None)
    if current in known_by:
        release = Release.open(to / current)
        made = publish(release.model_folders, shop, to, keep=len(releases(to)) + 1, index=_index_of(release), show=show)
        published = made.release
    remove(to, holding(to, user))
    return published


def _index_of(release: Release) -> Kind:
    """The kind of index that all spaces of a release have; of several kinds, what the size decides."""
    kinds = {row["index"] for model in release.manifest["models"].values() for row in model["spaces"].values()}
    return kinds.pop() if len(kinds) == 1 else "auto"
