"""The command line: one verb a command, thin: parse, call, print. Heavy imports happen inside the verbs."""

from __future__ import annotations

import sys

import typer

from endcap.errors import EndcapError

INTERRUPTED = 130  # what shells expect of a command that Ctrl-C has stopped

MOST_THREADS = 256  # beyond, libraries fail in ways of their own

app = typer.Typer(
    name="endcap",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a shop's event log to live recommendations.",
)


def _add_verbs() -> None:
    """Each module below registers its verbs on `app` when imported."""
    import importlib

    for module in ("simulate", "data", "models", "releases", "serving", "cross_sell", "forget", "doctor", "demo"):
        importlib.import_module(f"endcap.cli.{module}")


def main() -> None:
    """Entry point: runs a verb, turns an EndcapError into one line on stderr and its exit code."""
    try:
        _add_verbs()
        app()
    except KeyboardInterrupt:  # while the verbs were being imported; later ones end the same way
        raise SystemExit(INTERRUPTED) from None
    except EndcapError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:  # a path that nothing can be read from or written to
        from endcap.artefact import lacks_room, place_of

        if lacks_room(error):
            where = place_of(error, error.filename or "what was to be written")
            print(f"error: {EndcapError(f'{where}: the disk is full; make room and run this again')}", file=sys.stderr)
            raise SystemExit(1) from None
        said = f"{error.filename}: {error.strerror}" if error.filename else str(error) or type(error).__name__
        print(f"error: {EndcapError(said)}", file=sys.stderr)
        raise SystemExit(2 if error.filename else 1) from None
