"""The tables of the S3-Rec files (Beauty, Sports and others of that form): leave-one-out, full ranking.

    python benchmarks/s3rec.py --data DIR [--file NAME.txt] [--json FILE] [--quick] [--only ROWS] [--seed N]
        [--work DIR]

DIR holds NAME.txt, or s3rec-beauty with it. The published rows give items of the past the score 0; `seen=zero` does the
same, the other columns leave them out. The files have no titles, no times and one kind of action: they test neither the
text tower nor time gaps nor behaviour types. Settings were chosen by validation, the test was read once.
"""

from __future__ import annotations

from pathlib import Path

import _published as published_files
from _report import report
from _tables import chosen, table_arguments, table_rows, trained
from endcap import evaluate

BY_POSITION = {
    "longest": 50, "batch_size": 256, "validation_people": 1_000_000, "epochs": 40, "learning_rate": 0.002,
}  # fmt: skip
BY_CUT = {"longest": 50, "batch_size": 1024, "validation_people": 1_000_000, "learning_rate": 0.002}
OURS = BY_CUT | {"epochs": 9, "weight_decay": 0.1, "edges": ["popularity", "position"]}
ROWS = {
    "popularity": ("popularity", {}),
    "item-knn": ("item-knn", {}),
    "sasrec": ("sasrec", BY_POSITION),
    "comirec": ("comirec", BY_CUT | {"epochs": 12}),
    "coaction-graph": ("coaction-graph", OURS),
    "coaction-graph without co-action": ("coaction-graph", OURS | {"relations": "none"}),
}
METRICS = ("hit_rate@10", "ndcg@10", "hit_rate@20", "ndcg@20")
PUBLISHED = {
    "Beauty": {
        "sasrec": ("SASRec .0605 / .0318 / .0902 / .0394", (0.0605, 0.0318)),
        "coaction-graph": ("ICLRec .0744 / .0403 / .1058 / .0483", (0.0744, 0.0403)),
    },
    "Sports_and_Outdoors": {
        "sasrec": ("SASRec .0350 / .0192 / .0507 / .0231", ()),
        "coaction-graph": ("ICLRec .0437 / .0238 / .0646 / .0291", (0.0437, 0.0238)),
    },
}


def main() -> None:
    parser = table_arguments(__doc__ or "")
    parser.add_argument("--file", help="which file of the folder")
    given = parser.parse_args()
    path = published_files.beauty(given.data if given.file is None else Path(given.data) / given.file)
    sequences = published_files.s3rec(path)
    rows = chosen(ROWS, given)
    models = trained(rows, sequences.shop, given, sequences.name)
    if given.dev:
        return
    published = PUBLISHED.get(sequences.name, {})
    command = f"python benchmarks/s3rec.py --data DIR --file {sequences.name}.txt --seed {given.seed}"
    found = []
    for seen in ("zero", "leave-out"):
        outcome = evaluate(
            sequences.shop, models, protocol="leave-one-out", seen=seen, lengths=(5, 10, 20, 50),
            seed=given.seed, threads=given.threads, show=True,
        )  # fmt: skip
        outcome.print()
        of_rule = table_rows(outcome, rows, METRICS, published if seen == "zero" else {}, command)
        for row in of_rule:
            row.what = f"{row.what}, seen={seen}"
        found += of_rule
    notes = __doc__.split("\n\n")[2].replace("\n", " ") if __doc__ else ""
    report(
        f"s3rec-{sequences.name}",
        f"{sequences.name}, {sequences.note}",
        found,
        given.json,
        quick=given.quick,
        notes=notes,
    )


if __name__ == "__main__":
    main()
