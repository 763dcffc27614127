"""The table of Grocery_and_Gourmet_Food in ReChorus form: leave-one-out among 99 given negatives, and in full.

    python benchmarks/grocery.py --data DIR [--json FILE] [--quick] [--only ROWS] [--seed N] [--work DIR]

DIR holds train.csv, dev.csv and test.csv, or amazon-grocery-relations with these. The set has no titles and one kind of
action: it tests neither the text tower nor behaviour types. Co-action neighbours come from the training part alone.
Settings were chosen by validation (dev), the test was read once for the table, and once more for SASRec after its
settings were chosen anew. It keeps the epoch with the best NDCG among the first 500 of the full ranking: five places
among 99 even draws of 8,713 items are about the first 440.
"""

from __future__ import annotations

import _published as published_files
from _report import report
from _tables import chosen, table_arguments, table_rows, trained
from endcap import evaluate

BY_POSITION = {"longest": 20, "batch_size": 256, "validation_people": 1_000_000, "epochs": 40}
SASREC = BY_POSITION | {
    "batch_size": 128, "dim": 128, "dropout": 0.5, "layers": 1, "readout": "mean", "negatives": 512,
    "weight_decay": 0.1, "learning_rate": 0.002, "epochs": 14, "validation_metric": "ndcg@500",
}  # fmt: skip
BY_CUT = {"longest": 20, "batch_size": 1024, "validation_people": 1_000_000, "learning_rate": 0.002}
OURS = BY_CUT | {
    "dim": 128, "dropout": 0.4, "neighbours": 20, "neighbour_dropout": 0.4, "weight_decay": 0.1, "epochs": 10,
}  # fmt: skip
ROWS = {
    "popularity": ("popularity", {}),
    "item-knn": ("item-knn", {}),
    "gru4rec": ("gru4rec", BY_POSITION),
    "sasrec": ("sasrec", SASREC),
    "comirec": ("comirec", BY_CUT | {"epochs": 20}),
    "coaction-graph": ("coaction-graph", OURS),
    "coaction-graph without co-action": ("coaction-graph", OURS | {"relations": "none"}),
}
METRICS = ("hit_rate@5/given99", "ndcg@5/given99", "hit_rate@10", "ndcg@10")
PUBLISHED = {
    "popularity": ("MostPop .2065 / .1301", ()),
    "gru4rec": ("GRU4Rec .3664 / .2597", ()),
    "sasrec": ("SASRec .3888 / .2923; within .015", (0.3738, 0.2773)),
    "comirec": ("ComiRec .3763 / .2694; within .015", (0.3613, 0.2544)),
    "coaction-graph": ("ContraRec .4269 / .3290, TiMiRec+ .4063 / .3087", (0.4269, 0.3290)),
}


def main() -> None:
    given = table_arguments(__doc__ or "").parse_args()
    sequences = published_files.grocery(given.data)
    rows = chosen(ROWS, given)
    models = trained(rows, sequences.shop, given, sequences.name)
    if given.dev:
        return
    outcome = evaluate(
        sequences.shop, models, protocol="leave-one-out", negatives=sequences.test, lengths=(5, 10, 20, 50),
        seed=given.seed, threads=given.threads, show=True, by_segment=True,
    )  # fmt: skip
    outcome.print()
    report(
        "grocery",
        f"{sequences.name}, {sequences.note}",
        table_rows(outcome, rows, METRICS, PUBLISHED, f"python benchmarks/grocery.py --data DIR --seed {given.seed}"),
        given.json,
        quick=given.quick,
        notes=__doc__.split("\n\n")[2].replace("\n", " ") if __doc__ else "",
    )


if __name__ == "__main__":
    main()
