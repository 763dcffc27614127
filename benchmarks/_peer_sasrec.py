"""One training of RecBole's SASRec, timed by the interpreter that RecBole is installed for.

    PEER_PYTHON _peer_sasrec.py FOLDER SETTINGS

FOLDER holds `sequences/sequences.inter` (user_id, item_id, timestamp; every action is to be trained on); SETTINGS is
JSON with RecBole's names. Prints a line of JSON: the version and, for each pass, rows, seconds and CPU-seconds.
"""

import json
import logging
import sys
import time

import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataloader import TrainDataLoader
from recbole.data.utils import create_samplers
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed


def main(folder: str, settings: str) -> None:
    """Train `passes` times over all instances that RecBole makes of the sequences."""
    sys.argv = sys.argv[:1]  # Config reads it, too
    given = json.loads(settings)
    threads, passes = given.pop("threads"), given.pop("passes")
    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)
    fixed = {
        "data_path": folder,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "group_by": "none", "order": "TO", "mode": "full"},
        "use_gpu": False,
        "epochs": 1,
        "show_progress": False,
    }
    config = Config(model="SASRec", dataset="sequences", config_dict={**fixed, **given})
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    parts = dataset.build()
    samplers = create_samplers(config, dataset, parts)
    batches = TrainDataLoader(config, parts[0], samplers[0], shuffle=True)
    model = get_model(config["model"])(config, parts[0])
    trainer = Trainer(config, model)
    took = []
    for _ in range(passes):
        begun = time.perf_counter(), time.process_time()
        trainer.fit(batches, saved=False, verbose=False)
        took.append({"seconds": time.perf_counter() - begun[0], "cpu_seconds": time.process_time() - begun[1]})
    found = {
        "peer": f"RecBole {recbole.__version__}",
        "rows": len(parts[0]),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "passes": took,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
