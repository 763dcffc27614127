"""The mapping theirs=ours: every mistake is told with the way out."""

from __future__ import annotations

import pytest

from endcap.errors import InputError
from endcap.shop.columns import choose_event_columns, choose_item_columns, parse_pairs
from endcap.shop.options import make_options

OURS = ["user", "item", "interaction", "time"]


def test_pairs_in_every_form_a_person_or_a_program_writes():
    expected = (("a", "user"), ("b", "session"), ("b", "order"))
    assert parse_pairs("a=user, b=session,b=order", "--columns") == expected
    assert parse_pairs(["a=user", "b=session,b=order"], "--columns") == expected
    assert parse_pairs({"a": "user", "b": ["session", "order"]}, "--columns") == expected
    assert parse_pairs(expected, "--columns") == expected
    assert parse_pairs("utm=a=user", "--columns") == (("utm=a", "user"),)


def test_one_source_column_may_feed_two_of_ours():
    chosen = choose_event_columns([*OURS, "invoice"], parse_pairs("invoice=session,invoice=order", ""), "log.csv")
    assert chosen.theirs["session"] == chosen.theirs["order"] == "invoice"
    assert chosen.unused == ()


def test_a_column_with_one_of_our_names_can_be_left_out():
    chosen = choose_event_columns([*OURS, "position"], (("position", "-"),), "log.csv")
    assert "position" not in chosen
    assert chosen.unused == ("position",)


def test_a_column_that_is_mapped_elsewhere_does_not_feed_its_own_name():
    chosen = choose_event_columns([*OURS, "title", "name"], (("title", "brand"), ("name", "title")), "log.csv")
    assert chosen.theirs["title"] == "name"
    assert chosen.theirs["brand"] == "title"


@pytest.mark.parametrize(
    ("found", "columns", "message"),
    [
        (OURS, "uid=user", "log.csv has no column 'uid'; it has user, item, interaction, time"),
        (OURS, "user=usr", "no column 'usr' of ours; did you mean 'user'?"),
        ([*OURS, "a", "b"], "a=price,b=price", "both 'a' and 'b' are mapped to 'price'"),
        ([*OURS, "item"], "", "the column 'item' stands twice in the header"),
        (OURS[:3], "", "no column for time; it has user, item, interaction; name it with --columns theirs=time"),
        (["visitorid", "itemid", "event", "timestamp"], "", "--columns visitorid=user,itemid=item,event=interaction,"),
        (["user", "item", "time"], "", "if all rows are of one kind, give e.g. --interaction purchase"),
        ([*OURS, "User"], "", "'User' and 'user' differ in capitals only"),
    ],
)
def test_mistakes_are_told_with_the_way_out(found, columns, message):
    with pytest.raises(InputError) as error:
        choose_event_columns(found, parse_pairs(columns, "--columns"), "log.csv")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_items_keep_their_vectors():
    chosen = choose_item_columns(["sku", "vector_text", "size"], (("sku", "item"),), "items.parquet")
    assert chosen.theirs == {"item": "sku", "vector_text": "vector_text"}
    assert chosen.unused == ("size",)


def test_a_mapping_file_and_flags_that_win(tmp_path):
    file = tmp_path / "map.toml"
    file.write_text(
        '[columns]\nuid = "user"\ninvoice = ["session", "order"]\n[interactions]\nview = "click"\nbuy = "purchase"\n'
        '[items]\nsku = "item"\n[options]\nkeep_anonymous = true\nmax_rejected = 0.5\n'
        'strength = ["click", "purchase"]\n'
    )
    options = make_options(mapping=file, columns="customer=user", interactions="view=-", max_rejected=0.2)
    assert set(options.columns) == {("customer", "user"), ("invoice", "session"), ("invoice", "order")}
    assert dict(options.interactions) == {"view": "-", "buy": "purchase"}
    assert options.item_columns == (("sku", "item"),)
    assert options.keep_anonymous
    assert options.strength == ("click", "purchase")
    assert options.max_rejected == 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colums": "a=user"}, "did you mean 'columns'?"),
        ({"columns": "user"}, "write it as theirs=ours"),
        ({"max_rejected": 1.5}, "between 0 and 1"),
        ({"session_gap": "30"}, "not a duration"),
        ({"timezone": "Mars/Olympus"}, "no such time zone"),
        ({"timezone": "../../etc/passwd"}, "no such time zone"),
        ({"earliest": "yesterday"}, "not a date"),
        ({"earliest": "2020-01-02", "latest": "2020-01-01"}, "lies after"),
        ({"strength": "click,return"}, "'return' is no positive interaction"),
        ({"strength": "click,click"}, "each name once"),
        ({"delimiter": ";;"}, "one character"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError) as error:
        make_options(**options)
    assert message in str(error.value)


def test_a_mapping_file_with_an_unknown_table(tmp_path):
    file = tmp_path / "map.toml"
    file.write_text("[colums]\na = 'user'\n")
    with pytest.raises(InputError, match=r"no table \[colums\]"):
        make_options(mapping=file)
