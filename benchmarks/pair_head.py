"""Our small network over columns of pairs beside the same in torch, by rows of a question: CPU time, and how far apart.

    python benchmarks/pair_head.py [--json FILE] [--quick]

Torch answers in one thread. As it comes it shares the rows out among threads, which wait for each other by turning;
what that costs beside other work differs from one moment to the next, so it is no row here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from _cost import cpu_ms
from _report import Row, arguments, report
from endcap.models.cross_sell.evidence import FORMS
from endcap.models.cross_sell.pair_head import HIDDEN, READ_AS, PairHead

ROWS = (16, 100, 500, 2_000)
ROUNDS = 200
COMMAND = "python benchmarks/pair_head.py"
APART = 1e-5  # of the largest


def main() -> None:
    given = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(len(FORMS), HIDDEN[0]), nn.GELU(), nn.Linear(*HIDDEN), nn.GELU(), nn.Linear(HIDDEN[1], 1)
    )
    weights = {f"net.{name}": value.numpy() for name, value in net.state_dict().items()}
    scale = {"unit": np.ones(len(FORMS)), "mean": np.zeros(len(FORMS)), "spread": np.ones(len(FORMS))}
    ours = PairHead.restored(FORMS, {**weights, **scale})
    logged = torch.tensor([READ_AS[form] == READ_AS["log"] for form in FORMS])

    def theirs(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            read = torch.from_numpy(rows)
            return net(torch.where(logged, (read.clamp_min(0) + 1).log(), read))[:, 0].numpy()

    rng = np.random.default_rng(0)
    made = rng.lognormal(-3, 2, (max(ROWS), len(FORMS))) * (rng.random((max(ROWS), len(FORMS))) < 0.6)
    rounds, found = ROUNDS // 10 if given.quick else ROUNDS, []

    for n in ROWS:
        asked = made[:n].astype(np.float32)
        own, peer = (cpu_ms(lambda call=call, asked=asked: call(asked), rounds) for call in (ours, theirs))
        apart = np.abs(ours(asked) - theirs(asked)).max() / np.abs(theirs(asked)).max()
        found.append(
            Row(
                what=f"{n:,} rows: torch's CPU time over ours",
                ours=peer / own,
                reference=f"{own:.3f} CPU-ms against {peer:.3f}; {apart:.0e} apart",
                target="> 1",
                met=bool(peer > own and apart < APART),
                command=COMMAND,
            )
        )
    report("pair_head", "made rows", found, given.json, quick=given.quick)


if __name__ == "__main__":
    main()
