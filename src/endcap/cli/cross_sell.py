"""Verbs about what goes with what: `cross-sell`, `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from endcap.cli import app
from endcap.cli.serving import Surfaces, filters_of, print_answer, release_folder
from endcap.errors import InputError

if TYPE_CHECKING:
    from endcap.answers import Candidates, Reason, Request
    from endcap.models import Model
    from endcap.serve.catalogue import LiveCatalogue
    from endcap.serve.questions import Answer

LOOKED_AT = 200  # places of a list in which an item is looked for
PLACES = 4

ModelFolder = Annotated[Path, typer.Option("--model", metavar="DIR", help="A model folder.")]
Titles = Annotated[
    Path | None, typer.Option("--shop", metavar="DIR", help="The shop, for titles, categories, brands and prices.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("cross-sell")
def cross_sell(
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="One item, or the items of a basket.")],
    model: Annotated[Path | None, typer.Option("--model", metavar="DIR", help="Ask this model folder.")] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Ask the live release of this folder.")] = None,
    release: Annotated[Path | None, typer.Option("--release", metavar="DIR", help="Ask this release folder.")] = None,
    shop: Titles = None,
    k: Annotated[int, typer.Option("-k", min=1, max=500, help="How many items.")] = 10,
    parts: Annotated[bool, typer.Option("--parts", help="Also similarity, P(complement) and recency.")] = False,
    reasons: Annotated[bool, typer.Option("--reasons", help="All that is known of why, not only the first.")] = False,
    left_out: Annotated[bool, typer.Option("--left-out", help="Also the rivals that were kept out.")] = False,
    surface: Annotated[str, typer.Option(help="With a release: whose rules and fallbacks hold.")] = "cross-sell",
    surfaces: Surfaces = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE=VALUE", help="With a release: a filter, as in max_price=50; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the fields of the HTTP answer.")] = False,
) -> None:
    """What goes with an item or a basket: nothing that lies in it, nor what would be bought in its place.

    A model folder answers by itself; a release answers as the server would, with rules and fallbacks.

    Examples:

        endcap cross-sell I0017 --model models/xsell --shop shop -k 5 --parts

        endcap cross-sell I0017 I0203 --to releases --where max_per_category=1 --left-out
    """
    import msgspec

    from endcap.serve.questions import Question
    from endcap.settings import make_settings

    if (model is None) == (to is None and release is None):
        raise InputError("give either --model DIR, or a release: --to RELEASES or --release RELEASE")
    asked: dict[str, Any] = {"item": items[0]} if len(items) == 1 else {"basket": items}
    asked |= {"k": k, "surface": surface, "parts": parts, "reasons": reasons, "left_out": left_out}
    question = make_settings(Question, {**asked, "filters": filters_of(where or [])}, where="cross-sell")
    if model is None:
        from endcap.serve.answerer import answer
        from endcap.serve.serving import Serving
        from endcap.serve.surfaces import read_surfaces

        if shop is not None:
            raise InputError("--shop: a release has its own titles; it goes with --model")
        given = answer(question, Serving.open(release_folder(to, release), read_surfaces(surfaces)))
    else:
        stray = {"--where": where, "--surfaces": surfaces}
        if wrong := [option for option, value in stray.items() if value]:
            raise InputError(f"{wrong[0]}: rules are a release's; give --to or --release instead of --model")
        given = _Asked.open(model, shop).answer(items, k, parts=parts, reasons=reasons, left_out=left_out)
    if as_json:
        known = msgspec.to_builtins(given)
        typer.echo(msgspec.json.encode(known | ({"request_id": None, "release": None} if model else {})).decode())
    else:
        print_answer(given, f"release {given.release}" if model is None else str(model))


@app.command()
def explain(
    item: Annotated[str, typer.Argument(metavar="A", help="An item's id: who has this,")],
    other: Annotated[str, typer.Argument(metavar="B", help="may want that, or not.")],
    model: ModelFolder,
    shop: Titles = None,
    as_json: Json = False,
) -> None:
    """Why B goes with A, or why it does not.

    How often both were bought together, the likeliest way over a third product, the parts of the score, what tells
    complements from substitutes, and what is known of both. Parts and rivals are those of cross-sell; another model
    gives its own reasons.

    Example: endcap explain I0017 I0203 --model models/xsell --shop shop
    """
    import json

    told = _Asked.open(model, shop).why(item, other)
    if as_json:
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        _print_why(told)


class _Asked(NamedTuple):
    """A model of a folder, and what is known of the items that it was trained with."""

    model: Model
    folder: Path
    catalogue: LiveCatalogue

    @classmethod
    def open(cls, folder: Path, shop: Path | None) -> _Asked:
        """
        Raises:
            InputError: if the folder holds no model that answers, or one of another shop.
        """
        import pyarrow as pa

        from endcap import models
        from endcap.serve.catalogue import LiveCatalogue
        from endcap.shop import Shop

        model = models.open(folder)
        if not isinstance(model, models.Model):
            raise InputError(f"--model {folder}: a {model.system} names nothing; name a model that it ranks")
        origin = model.origin
        assert origin is not None  # an opened model has one
        table = pa.table({"item": origin.items.ids})
        if shop is not None:
            opened = Shop.open(shop)
            origin.check_against(opened.items, "the model")
            table = opened.plain_catalogue().slice(0, len(origin.items))
        return cls(model, folder, LiveCatalogue(origin.items, table))

    def number(self, item: str) -> int:
        """
        Raises:
            InputError: if the model does not know the item.
        """
        number = self.catalogue.number(item)
        if number < 0:
            raise InputError(f"unknown item {item!r}: it was not in the training data of {self.folder}")
        return number

    def answer(self, items: list[str], k: int, *, parts: bool, reasons: bool, left_out: bool) -> Answer:
        """What goes with these; those that the model does not know are passed over and named in a note.

        Raises:
            InputError: if it knows none of them.
        """
        from endcap.serve.questions import Answer, AnsweredItem, LeftOutItem

        known = [item for item in items if self.catalogue.number(item) >= 0] or items[:1]
        request = self._request([self.number(item) for item in known], k)
        found, catalogue = self.model.candidates(request), self.catalogue
        listed = [
            AnsweredItem(
                catalogue.id(number),
                round(float(found.scores[row]), 6),
                found.source[row],
                [self._say(why) for why in self.model.explain(request, number)][: None if reasons else 1],
                catalogue.title(number),
                _parts(found, row) if parts else None,
            )
            for row, number in enumerate(found.items.tolist())
        ]
        met = [] if found.left_out is None or not left_out else found.left_out.items.tolist()[:k]
        rivals = [
            LeftOutItem(catalogue.id(number), "substitute", round(float(p), PLACES), catalogue.title(number))
            for number, p in zip(met, found.left_out.complement if found.left_out else (), strict=False)
        ]
        notes = [f"unknown items: {', '.join(sorted(set(items) - set(known)))}"] if len(known) < len(items) else []
        if len(listed) < k:
            notes.append(f"{len(listed)} of {k} items: the model names no others")
        if parts and listed and found.parts is None:
            notes.append(f"{self.model.system} does not say what its scores are made of")
        return Answer("", "", listed, notes=notes, left_out=rivals)

    def why(self, item: str, other: str) -> dict[str, Any]:
        """All that is known of a pair, for `explain`."""
        import numpy as np

        from endcap.models.cross_sell import CrossSell

        a, b = self.number(item), self.number(other)
        if a == b:
            raise InputError(f"{item}: an item does not go with itself; name two")
        request, parts = self._request([a], LOOKED_AT), {}
        verdict, contributions = "not told", {}
        if isinstance(self.model, CrossSell):
            found = self.model.parts(np.array([a], np.int32), np.array([b], np.int32))
            parts = {name: round(float(value[0]), PLACES) for name, value in found._asdict().items()}
            if self.model.classifier is not None:
                verdict = "substitute" if found.rivals[0] else "complement"
                contributions = _contributions(self.model.classifier, a, b)
        place = self.model.candidates(request).items.tolist()
        return {
            "item": self._facts(a),
            "other": self._facts(b),
            "system": self.model.system,
            "verdict": verdict,
            "place": place.index(b) + 1 if b in place else None,
            "parts": parts,
            "reasons": [self._say(why) for why in self.model.explain(request, b)],
            "contributions": contributions,
        }

    def _request(self, numbers: list[int], k: int) -> Request:
        import numpy as np

        from endcap.answers import Request

        k = min(k, self.catalogue.n_released)
        return Request(k=k, item=numbers[0]) if len(numbers) == 1 else Request(k=k, basket=np.array(numbers, np.int32))

    def _say(self, why: Reason) -> str:
        from endcap.serve.reasons import sentence

        assert self.model.origin is not None
        return sentence(why, self.catalogue, self.model.origin.interactions)

    def _facts(self, number: int) -> dict[str, Any]:
        """What the catalogue says of an item; what it does not is left out."""
        row = {"item": self.catalogue.id(number), "title": self.catalogue.title(number)}
        row |= {"category": self.catalogue.category[number], "brand": self.catalogue.brand[number]}
        price = float(self.catalogue.price[number])
        return {key: value for key, value in row.items() if value is not None} | ({"price": price} if price > 0 else {})


def _parts(found: Candidates, row: int) -> dict[str, float] | None:
    if found.parts is None:
        return None
    return {name: round(float(values[row]), PLACES) for name, values in found.parts.items()}


def _contributions(classifier: Any, a: int, b: int) -> dict[str, float]:
    """What each group of features adds to the log-odds, the largest first; those that add nothing are left out."""
    import numpy as np

    from endcap.models.complement.features import GROUPS

    added = classifier.contributions(np.array([a]), np.array([b]))[0].tolist()
    largest = sorted(zip(GROUPS, added, strict=True), key=lambda pair: -abs(pair[1]))
    return {group: round(value, PLACES) for group, value in largest if abs(value) >= 10**-PLACES}


def _print_why(told: dict[str, Any]) -> None:
    """What `why` found, as lines to read."""
    item, other = told["item"], told["other"]
    for row in (item, other):
        price = [f"{row['price']:g}"] if "price" in row else []
        typer.echo("  ".join([*(row[name] for name in ("item", "title", "category", "brand") if name in row), *price]))
    typer.echo("")
    typer.echo(_verdict(told))
    if parts := told["parts"]:
        product = " x ".join(f"{name} {value:.2f}" for name, value in parts.items())
        score = max(parts["similarity"], 0) * parts["complement"] * parts["recency"]
        typer.echo(f"score {score:.2f} = {product}")
    for reason in told["reasons"] or ["nothing links them that this model knows of"]:
        typer.echo(f"- {reason}")
    for group, value in told["contributions"].items():
        typer.echo(f"- {group} {'speaks for a complement' if value > 0 else 'speaks for a substitute'}: {value:+.2f}")
    for fact in _compared(item, other):
        typer.echo(f"- {fact}")


def _verdict(told: dict[str, Any]) -> str:
    other, item = (told[name].get("title", told[name]["item"]) for name in ("other", "item"))
    if told["verdict"] == "substitute":
        return f"{other} is left out as a substitute of {item}, P(complement) = {told['parts']['complement']:.2f}"
    place = f"place {told['place']} of its list" if told["place"] else f"not among the first {LOOKED_AT} of its list"
    if told["verdict"] == "complement":
        return f"{other} goes with {item}, P(complement) = {told['parts']['complement']:.2f}: {place}"
    return f"{other} beside {item}: {place}; {told['system']} does not tell complements from substitutes here"


def _compared(item: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What the catalogue says of both."""
    facts = [
        f"the same {name}: {item[name]}" if item[name] == other[name] else f"{name}: {item[name]} and {other[name]}"
        for name in ("category", "brand")
        if name in item and name in other
    ]
    if "price" in item and "price" in other:
        facts.append(f"price: {other['price'] / item['price']:.2g} times that of {item['item']}")
    return facts
