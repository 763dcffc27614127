"""Verbs about models: `systems`, `train`, `evaluate`, `related`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endcap.cli import MOST_THREADS, app
from endcap.errors import EndcapError, InputError

if TYPE_CHECKING:
    from endcap.answers import Reason
    from endcap.models import Model
    from endcap.models.ranker import Ranker
    from endcap.shop import Shop

ShopFolder = Annotated[Path, typer.Option("--shop", help="The folder that `endcap ingest` wrote.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed and one thread: the same result to the last bit.")]
Threads = Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="Threads to train with.")]


@app.command()
def systems(
    name: Annotated[str | None, typer.Argument(help="Show all settings of this system.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the systems that can be trained and what each can answer; with a name, its settings.

    Examples:

        endcap systems

        endcap systems item-knn
    """
    from endcap.models import RANKERS, SYSTEMS, create

    if name in RANKERS:
        from endcap.models.ranker import Ranker

        _print_settings(Ranker(), as_json)
        return
    if name is not None:
        _print_settings(create(name), as_json)
        return
    rows = [{"name": key, "answers": system.answers, "about": system.about} for key, system in SYSTEMS.items()]
    _print_rows(rows, as_json)


@app.command()
def train(
    system: Annotated[str, typer.Argument(help="A name of `endcap systems`, or ranker.")],
    shop: ShopFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder for the model; replaced if it is there.")],
    until: Annotated[str | None, typer.Option(help="See only what happened before this date or time (ISO).")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, key=value; repeatable; wins over --config.")
    ] = None,
    tune: Annotated[
        str | None, typer.Option(help="First search for good settings this long: 90s, 20m, 1h. --set stays fixed.")
    ] = None,
    sources: Annotated[
        str | None, typer.Option(help="ranker: the systems that it ranks, with commas; name=system names them.")
    ] = None,
    fit: Annotated[str | None, typer.Option(help="ranker: the stretch to fit on, after the sources': 7d.")] = None,
    validation: Annotated[str | None, typer.Option(help="ranker: the last stretch, to compare on: 7d.")] = None,
    relations: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="cross-sell, ranker: links between items that somebody vouches for; Parquet or CSV of item, other, "
            "relation (complement, also_bought; substitute, also_viewed).",
        ),
    ] = None,
    seed: Seed = 0,
    threads: Threads = 1,
) -> None:
    """Train a system on a shop. The last line printed is the model folder.

    An interrupted training or tuning goes on from where it was when the same command is given again. A tuning judges
    settings on the last tenth of the log that it may see; `endcap systems NAME` shows what it tries.

    Examples:

        endcap train co-occurrence --shop shop --out models/counts

        endcap train als --shop shop --out models/als --until 2015-08-01 --set factors=64

        endcap train item-knn --shop shop --out models/knn --tune 20m --set max_per_user=200

        endcap train cross-sell --shop shop --out models/xsell --relations goes_with.csv

        endcap train ranker --shop shop --out models/rank --sources item-knn,co-occurrence --set item-knn.shrink=5
    """
    import shutil
    import time

    from endcap import models
    from endcap.artefact import check_outside, check_replaceable
    from endcap.cli.ranker import train_ranker
    from endcap.jobs.relations import give_relations, read_relations
    from endcap.settings import read_settings
    from endcap.shop import Shop

    settings, is_ranker = read_settings(config, assignments or []), system in models.RANKERS
    given = {"--sources": sources, "--fit": fit, "--validation": validation}
    if not is_ranker and (stray := [option for option, value in given.items() if value is not None]):
        raise InputError(f"{stray[0]}: only `train ranker` has it")
    if is_ranker and tune is not None:
        raise InputError("--tune: a ranker is not tuned; --set changes its settings")
    model = None if is_ranker else models.create(system, settings)
    if relations is not None and tune is not None:
        raise InputError("--tune: it would search without --relations; tune first, then --set what it finds")
    links = None if relations is None else read_relations(relations, "--relations")
    if links is not None and model is not None:
        give_relations(model, links, "--relations")
    budget_s = None if tune is None else _seconds(tune, "--tune")
    if out.exists() and not (out / "manifest.json").is_file():
        raise InputError(f"--out {out}: there is something that is no model folder; name another one")
    check_replaceable(out, kind="model")
    check_outside(out.resolve().parent, "a model")
    view = Shop.open(shop)
    if until is not None:
        end = _moment(until, "--until")
        if len(view.events) and end > int(view.events.time.max()):
            typer.echo(f"--until {until}: the log ends before that; all of it is used", err=True)
        view = view.until(end)
    if model is None:
        stretches: dict[str, Any] = {"fit": fit, "validation": validation, "relations": links}
        train_ranker(view, out, sources, **stretches, settings=settings, seed=seed, threads=threads)
        return
    tuning, training = (out.resolve().with_name(f".{out.resolve().name}.{work}") for work in ("tuning", "training"))
    if budget_s is not None:
        model = _tuned(system, view, budget_s, tuning, settings=settings, seed=seed, threads=threads)
    begun = time.monotonic()
    model.fit(view, seed=seed, threads=threads, show=True, checkpoint=training)
    model.save(out)
    shutil.rmtree(tuning, ignore_errors=True)
    typer.echo(
        f"{system}: {len(view.positives):,} actions, {view.n_users:,} users, {view.n_items:,} items, "
        f"{view.span_text()}; trained in {time.monotonic() - begun:.1f} s"
    )
    typer.echo(str(out))


def _tuned(system: str, view: Shop, budget_s: float, folder: Path, **how: Any) -> Model:
    """An untrained model with the settings that a tuning found, after its table."""
    from endcap.evaluate import tune

    try:
        report = tune(system, view, budget_s=budget_s, folder=folder, show=True, **how)
    except KeyboardInterrupt:
        raise EndcapError("stopped while tuning; the same command goes on with the trials that are done") from None
    report.print()
    return report.model()


@app.command()
def evaluate(
    shop: ShopFolder,
    models: Annotated[str, typer.Option(help="Names of `endcap systems` and model folders, with commas.")],
    protocol: Annotated[
        str, typer.Option(help="purchase-intent, next-item or cross-sell, split by time; leave-one-out or by-user.")
    ] = "purchase-intent",
    test: Annotated[
        str, typer.Option(help="Split by time: length of the test part, 7d of the time, or 0.1 of the events.")
    ] = "7d",
    source: Annotated[
        str | None, typer.Option(help="purchase-intent: lists of what people did this to; any: all of it.")
    ] = None,
    want: Annotated[str | None, typer.Option(help="The interaction that is wanted of the answers.")] = None,
    budgets: Annotated[str, typer.Option(help="purchase-intent: lengths of the lists.")] = "10,40,200",
    pairs: Annotated[
        str, typer.Option(help="purchase-intent: further source:want tables, as click:cart,any:cart; all: every one.")
    ] = "",
    k: Annotated[str, typer.Option("--k", "-k", help="Lengths of the lists, but for purchase-intent.")] = "5,10,20,50",
    repeats: Annotated[bool, typer.Option(help="next-item: count items that the person knew before, too.")] = False,
    every: Annotated[bool, typer.Option(help="next-item: ask at every action, not only at a person's first.")] = False,
    seen: Annotated[
        str, typer.Option(help="Split by person: items that the person knew; leave-out, keep, or zero (their score).")
    ] = "leave-out",
    negatives: Annotated[
        str | None, typer.Option(help="leave-one-out: also among sampled items, as uniform99 or popularity99.")
    ] = None,
    at_most: Annotated[
        int | None, typer.Option(min=1, help="Ask about this many people, or baskets, drawn by chance.")
    ] = None,
    segments: Annotated[bool, typer.Option(help="Also by popularity, history, interaction; cold items.")] = False,
    taxonomy: Annotated[bool, typer.Option(help="Also mean cosines within and across categories.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of a system trained here, name.key=value; repeatable.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this file.")] = None,
    seed: Seed = 0,
    threads: Threads = 1,
) -> None:
    """Compare models on a part of a log that none of them has seen: the last part, or some actions of each person.

    Names are trained on the other part; a folder that has seen the test part is refused. Every figure is printed
    with its 95 % bootstrap interval over people; models are compared with each other on the same cases.

    Examples:

        endcap evaluate --shop shop --models co-occurrence,item-knn,popularity --test 7d --json report.json

        endcap evaluate --shop shop --models models/ii,als --protocol next-item --set als.factors=64

        endcap evaluate --shop shop --models als,item-knn --protocol leave-one-out --negatives uniform99

        endcap evaluate --shop shop --models association-rules,random-walk --protocol cross-sell --segments
    """
    from endcap.evaluate import evaluate as compare
    from endcap.shop import Shop

    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise InputError(f"--json {json_file}: there is no folder {json_file.resolve().parent}")
    report = compare(
        Shop.open(shop),
        _split(models),
        protocol=protocol,
        test=test,
        source=source,
        want=want,
        budgets=_numbers(budgets, "--budgets"),
        pairs="all" if pairs == "all" else _split(pairs),
        lengths=_numbers(k, "--k"),
        repeats=repeats,
        every=every,
        seen=seen,  # type: ignore[arg-type]  # checked there
        negatives=negatives,
        at_most=at_most,
        by_segment=segments,
        taxonomy=taxonomy,
        settings=_settings_by_name(assignments or []),
        seed=seed,
        threads=threads,
        show=True,
    )
    report.print()
    if json_file is not None:
        report.save(json_file)


@app.command()
def related(
    item: Annotated[str, typer.Argument(help="The item's id, as in the log.")],
    model: Annotated[Path, typer.Option("--model", help="A model folder.")],
    seen_as: Annotated[str | None, typer.Option(help="Because you did this; default: the weakest one.")] = None,
    want: Annotated[
        str | None, typer.Option(help="You may want to do that; default: cart, else the strongest.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    shop: Annotated[Path | None, typer.Option("--shop", help="The shop, for titles.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the fields of the HTTP answer.")] = False,
) -> None:
    """Because you X this, you may Y that: ask a model folder once.

    Example:

        endcap related B00X --model models/ii --seen-as click --want cart -k 10
    """
    from endcap import models
    from endcap.answers import Request

    if k < 1:
        raise InputError(f"-k {k}: ask for at least one item")
    opened = models.open(model)
    if not isinstance(opened, models.Model):
        raise InputError(f"--model {model}: a {opened.system} relates no items; name a model that it ranks")
    origin = opened.origin
    assert origin is not None  # an opened model has one
    number = origin.items.number(item)
    if number < 0:
        raise InputError(f"unknown item {item!r}: it was not in the training data of {model}")
    code = origin.interactions.code
    request = Request(
        k=min(k, len(origin.items)),
        item=number,
        seen_as=None if seen_as is None else code(seen_as),
        want=None if want is None else code(want),
    )
    answer = opened.candidates(request)
    titles = _titles(shop, opened)
    rows: list[dict[str, Any]] = [
        {"item": name, "score": round(float(score), 6 if as_json else 3), "source": source}
        | ({"title": titles.get(int(other))} if titles else {})
        | {"reasons": [_reason(reason, opened) for reason in opened.explain(request, int(other))] if as_json else []}
        for name, score, source, other in zip(
            origin.items.decode(answer.items), answer.scores, answer.source, answer.items, strict=True
        )
    ]
    if as_json:
        _print_json({"request_id": None, "release": None, "items": rows})
    elif rows:
        _print_rows([{key: row[key] for key in row if key != "reasons"} for row in rows], as_json=False)
    else:
        typer.echo(f"no item is related to {item} in this way")


def _titles(shop: Path | None, model: Model) -> dict[int, str]:
    """Titles by item number, of the items that the model knows."""
    if shop is None:
        return {}
    from endcap.shop import Shop

    opened = Shop.open(shop)
    assert model.origin is not None
    model.origin.check_against(opened.items, "the model")
    if "title" not in opened.catalogue.column_names:
        return {}
    titles = opened.catalogue["title"].to_pylist()
    return {number: title for number, title in enumerate(titles) if title is not None}


def _reason(reason: Reason, model: Model) -> dict[str, Any]:
    """A reason in external names; what it does not say is left out."""
    origin = model.origin
    assert origin is not None
    names = {
        "kind": reason.kind,
        "item": None if reason.item is None else origin.items[reason.item],
        "seen_as": None if reason.seen_as is None else origin.interactions.name(reason.seen_as),
        "want": None if reason.want is None else origin.interactions.name(reason.want),
        "value": reason.value,
        "note": reason.note or None,
    }
    return {key: value for key, value in names.items() if value is not None}


def _print_settings(model: Model | Ranker, as_json: bool) -> None:
    rows = setting_rows(model)
    if rows or as_json:
        _print_rows(rows, as_json)
    else:
        typer.echo(f"{model.system} has no settings")


def setting_rows(model: Model | Ranker) -> list[dict[str, Any]]:
    """Name, type, default, what `train --tune` tries (None: nothing) and meaning of every setting of a system."""
    import msgspec

    config, space = type(model.config), model.search_space
    _, components = msgspec.json.schema_components([config])
    properties = components[config.__name__]["properties"]
    return [
        {
            "setting": key,
            "type": _type_text(field),
            "default": field.get("default"),
            "tune": str(space[key]) if key in space else None,
            "meaning": field.get("description"),
        }
        for key, field in properties.items()
    ]


def _type_text(field: dict[str, Any]) -> str:
    """The type and range of one setting of a JSON schema."""
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "anyOf" in field:
        return " | ".join(_type_text(choice) for choice in field["anyOf"])
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    ranges = [f"{sign} {field[key]}" for key, sign in signs.items() if key in field]
    return " ".join([field.get("type", ""), ", ".join(ranges)]).strip()


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table, markup=False)


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _moment(text: str, option: str) -> int:
    from endcap.shop.options import IngestOptions

    return IngestOptions().moment(text, option)


def _seconds(text: str, option: str) -> float:
    from endcap.shop import duration

    try:
        return duration(text) / 1_000_000
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str, option: str) -> list[int]:
    """Whole numbers, separated by commas.

    Raises:
        InputError: for anything else.
    """
    parts = _split(text)
    if not parts or not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"{option} {text}: write whole numbers with commas between, as in 10,40,200")
    return [int(part) for part in parts]


def _settings_by_name(assignments: list[str]) -> dict[str, dict[str, Any]]:
    """["als.factors=64"] as {"als": {"factors": "64"}}."""
    from endcap.settings import read_settings

    settings: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, dot, setting = assignment.partition(".")
        if not dot or "=" in name:
            raise InputError(f"--set {assignment}: write it as name.key=value, for instance als.factors=64")
        settings.setdefault(name, {}).update(read_settings(None, [setting]))
    return settings
