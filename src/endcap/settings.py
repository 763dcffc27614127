"""Settings: a frozen msgspec struct per thing that can be set, validated once, an unknown key is an error."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from endcap.errors import InputError

S = TypeVar("S", bound=msgspec.Struct)

BYTES_PATTERN = r"(?P<number>[0-9]{1,15}(\.[0-9]{1,6})?) ?((?P<prefix>[kKMGT])(?P<binary>i)?)?B?"  # see byte_count


def make_settings(kind: type[S], values: Mapping[str, Any], *, where: str = "settings") -> S:
    """Build and validate a settings struct; strings are converted to the declared types.

    Raises:
        InputError: for an unknown key (naming the nearest known one) or a value outside its range.
    """
    known = kind.__struct_encode_fields__
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(sorted(known))}"
            raise InputError(f"{where}: there is no setting {key!r}; {hint}")
    try:
        return msgspec.convert(dict(values), kind, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}") from None


def read_settings(config: Path | None, assignments: Sequence[str]) -> dict[str, Any]:
    """Merge a TOML file with `key=value` assignments, which win.

    Raises:
        InputError: if the file cannot be read or an assignment has no `=`.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values.update(read_toml(config, f"--config {config}"))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise InputError(f"--set {assignment}: write it as key=value")
        values[key.strip()] = value.strip()
    return values


def read_toml(path: Path, where: str) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        InputError: beginning with `where`, if it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise InputError(f"{where}: nested too deeply") from None
    except (OSError, ValueError) as error:  # tomllib's own, wrong UTF-8, and numbers of thousands of digits
        raise InputError(f"{where}: {error}") from None


def byte_count(amount: int | str) -> int:
    """Bytes of an amount of memory: a number, or text such as "512MB" (10^6 bytes each) or "2GiB" (2^30 each).

    Raises:
        InputError: for anything else, and for less than one byte.
    """
    found = re.fullmatch(BYTES_PATTERN, str(amount).strip())
    bytes_ = int(float(found["number"]) * _bytes_of_unit(found["prefix"] or "", bool(found["binary"]))) if found else 0
    if isinstance(amount, bool) or bytes_ < 1:
        raise InputError(f"memory {amount!r}: write it as 512MB, 2GB or 1.5GiB, or as a number of bytes")
    return bytes_


def _bytes_of_unit(prefix: str, binary: bool) -> int:
    power = " kMGT".index(prefix.replace("K", "k") or " ")
    return (1024 if binary else 1000) ** power
