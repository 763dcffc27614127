"""Skip-gram with negatives against gensim (both its modes) and fastText, each with its best learning rate.

    pip install -e '.[bench]' && python benchmarks/skipgram.py [--json FILE] [--quick]

Five million tokens of sessions over items that live in planted clusters; quality is the share of an item's ten nearest
by cosine that are in its own cluster. 100 dimensions, window 5, 5 negatives by frequency ** 0.75, two threads, one
process at a time. Every program trains `EPOCHS` epochs at each learning rate; its best precision stands for it. Ours
then trains as few epochs as reach that precision, and the times of these two trainings are compared.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from _report import Row, arguments, report

DIM, WINDOW, NEGATIVES, EXPONENT, THREADS, EPOCHS = 100, 5, 5, 0.75, 2, 3
RATES = (0.1, 0.2)
LONGEST = 8  # epochs that ours may take to reach a peer's precision
SEEN_OFTEN, NEAREST, QUERIES = 5, 10, 3000
TARGETS = {"gensim, iterable": 1 / 3, "gensim, corpus_file": 1 / 3, "fastText": 1 / 6}
NOTES = """Times are of training alone: vocabularies, reading and our compilation are left out (fastText reads while it
trains; a run of it with one dimension, no window to speak of and one negative is taken off). `one pair at a time` is
what the models use. Its negatives come from stretches of a pool that are walked 16 times; `each draw once` walks the
pool straight on and shows what that costs in precision. Shared negatives are
drawn once for 4 positives of a centre."""


class Corpus(NamedTuple):
    """tokens (m,) int32, sessions in a row; offsets (sessions + 1,) int64; cluster (n_items,) int32."""

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    cluster: NDArray[np.int32]


class Outcome(msgspec.Struct):
    """What one training took (seconds, CPU-seconds) and reached (precision@10)."""

    seconds: float
    cpu_seconds: float
    precision: float = 0.0


def planted(sessions: int, items: int, clusters: int, seed: int = 7) -> Corpus:
    """A session stays in a cluster four times in five; clusters, items in them and items at large are all Zipfian."""
    rng = np.random.default_rng(seed)
    size = items // clusters
    order = rng.permutation(items).astype(np.int32)
    cluster = np.empty(items, np.int32)
    cluster[order] = np.arange(items) // size
    lengths = 2 + rng.poisson(8, sessions)
    home = np.repeat(_zipf(rng, clusters, 0.6, sessions), lengths)
    at_home = order[home * size + _zipf(rng, size, 0.8, lengths.sum())]
    anywhere = rng.permutation(items)[_zipf(rng, items, 1.0, lengths.sum())]
    tokens = np.where(rng.random(lengths.sum()) < 0.8, at_home, anywhere).astype(np.int32)
    return Corpus(tokens, np.append(0, np.cumsum(lengths)).astype(np.int64), cluster)


def _zipf(rng: np.random.Generator, n: int, exponent: float, size: int) -> NDArray[np.int64]:
    cumulated = np.cumsum(1.0 / np.arange(1, n + 1) ** exponent)
    return np.searchsorted(cumulated, rng.random(size) * cumulated[-1], side="right").clip(0, n - 1)


def precision(vectors: NDArray[np.float32], corpus: Corpus) -> float:
    """Share of the ten nearest items that are of the query's cluster, among items seen five times and more."""
    often = np.flatnonzero(np.bincount(corpus.tokens, minlength=len(corpus.cluster)) >= SEEN_OFTEN)
    units = vectors[often] / np.maximum(np.linalg.norm(vectors[often], axis=1, keepdims=True), 1e-9)
    queries = np.random.default_rng(0).choice(len(often), min(QUERIES, len(often)), replace=False)
    hits = []
    for part in np.array_split(queries, max(1, len(queries) // 500)):
        scores = units[part] @ units.T
        scores[np.arange(len(part)), part] = -np.inf
        nearest = np.argpartition(-scores, NEAREST, axis=1)[:, :NEAREST]
        hits.append((corpus.cluster[often][nearest] == corpus.cluster[often][part][:, None]).mean(axis=1))
    return float(np.concatenate(hits).mean())


class Clock:
    """Wall and CPU time of all threads of this process between entering and leaving."""

    def __enter__(self) -> Clock:
        self._begun = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.outcome = Outcome(time.perf_counter() - self._begun[0], time.process_time() - self._begun[1])


Trainer = Callable[[Corpus, Path, float, int], tuple[NDArray[np.float32], Outcome]]


def train_ours(*, share: int = 1, rounds: int | None = None) -> Trainer:
    """The kernel as the models call it."""

    def train(corpus: Corpus, text: Path, rate: float, epochs: int) -> tuple[NDArray[np.float32], Outcome]:
        import numba

        from endcap.kernels.skipgram import ROUNDS, negative_pool, skipgram_pass

        numba.set_num_threads(THREADS)
        n, run = len(corpus.cluster), skipgram_pass(DIM, share)
        counts = np.bincount(corpus.tokens, minlength=n)
        no_extras = np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
        no_groups = np.full(n, -1, np.int32), np.zeros(1, np.int64), np.empty(0, np.int32)

        def one_pass(inputs, outputs, offsets, pool, rate_from, rate_to, seed):  # type: ignore[no-untyped-def]
            run(
                inputs, outputs, corpus.tokens, offsets, *no_extras, pool, NEGATIVES, rounds or ROUNDS, *no_groups,
                np.ones(n, np.float32), WINDOW, True, rate_from, rate_to, seed, THREADS,
            )  # fmt: skip

        def start() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            inputs = (2 * np.random.default_rng(1).random((n, DIM), dtype=np.float32) - 1) / np.float32(DIM)
            return inputs, np.zeros_like(inputs)

        one_pass(*start(), corpus.offsets[:51], np.zeros(1 << 12, np.int32), rate, rate, 0)  # compiles
        inputs, outputs = start()
        with Clock() as clock:
            for epoch in range(epochs):
                pool = negative_pool(counts, EXPONENT, 1 << 20, np.random.default_rng(epoch))
                rates = (rate * (1 - e / epochs) for e in (epoch, epoch + 1))
                one_pass(inputs, outputs, corpus.offsets, pool, *rates, epoch)
        return inputs, clock.outcome

    return train


def train_gensim(*, file: bool) -> Trainer:
    """gensim's Word2Vec on a file that its C code reads, or on lists of words."""

    def train(corpus: Corpus, text: Path, rate: float, epochs: int) -> tuple[NDArray[np.float32], Outcome]:
        from gensim.models import Word2Vec

        model = Word2Vec(
            vector_size=DIM, window=WINDOW, negative=NEGATIVES, ns_exponent=EXPONENT, sg=1, sample=0, min_count=1,
            workers=THREADS, alpha=rate, seed=1,
        )  # fmt: skip
        words = None if file else [line.split() for line in text.read_text(encoding="ascii").splitlines()]
        given = {"corpus_file": str(text)} if file else {"corpus_iterable": words}
        model.build_vocab(**given)
        total = {"total_words": len(corpus.tokens)} if file else {}
        with Clock() as clock:
            model.train(**given, **total, total_examples=len(corpus.offsets) - 1, epochs=epochs)
        vectors = np.zeros((len(corpus.cluster), DIM), np.float32)
        vectors[np.array(model.wv.index_to_key, np.int64)] = model.wv.vectors
        return vectors, clock.outcome

    return train


def train_fasttext(corpus: Corpus, text: Path, rate: float, epochs: int) -> tuple[NDArray[np.float32], Outcome]:
    """fastText without sub-words."""
    import fasttext

    def run(**settings: object) -> tuple[object, Outcome]:
        with Clock() as clock:
            model = fasttext.train_unsupervised(
                str(text), model="skipgram", minCount=1, minn=0, maxn=0, t=1.0, lr=rate, thread=THREADS, verbose=0,
                bucket=1, **settings,
            )  # fmt: skip
        return model, clock.outcome

    _, reading = run(dim=1, ws=1, neg=1, epoch=1)
    model, whole = run(dim=DIM, ws=WINDOW, neg=NEGATIVES, epoch=epochs)
    vectors = np.zeros((len(corpus.cluster), DIM), np.float32)
    for word in model.get_words():  # type: ignore[attr-defined]
        if word != "</s>":
            vectors[int(word)] = model.get_word_vector(word)  # type: ignore[attr-defined]
    return vectors, Outcome(whole.seconds - reading.seconds, whole.cpu_seconds - reading.cpu_seconds)


OURS = "one pair at a time"
PROGRAMS: dict[str, Trainer] = {
    OURS: train_ours(),
    "each draw once": train_ours(rounds=1),
    "negatives shared by 4": train_ours(share=4),
    "gensim, iterable": train_gensim(file=False),
    "gensim, corpus_file": train_gensim(file=True),
    "fastText": train_fasttext,
}


def child(folder: Path, program: str, rate: float, epochs: int) -> None:
    """Train once in this process and print the outcome."""
    stored = np.load(folder / "corpus.npz")
    corpus = Corpus(*(stored[name] for name in Corpus._fields))
    vectors, outcome = PROGRAMS[program](corpus, folder / "corpus.txt", rate, epochs)
    outcome.precision = precision(vectors, corpus)
    print(msgspec.json.encode(outcome).decode())


def outcome_of(folder: Path, program: str, rate: float, epochs: int) -> Outcome:
    """One training in a process of its own."""
    command = [sys.executable, __file__, "--child", str(folder), program, str(rate), str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} failed:\n{done.stderr}")
    outcome = msgspec.json.decode(done.stdout.splitlines()[-1], type=Outcome)
    print(f"{program}, rate {rate}, {epochs} epochs: {outcome}", file=sys.stderr, flush=True)
    return outcome


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--child", nargs=4, metavar=("FOLDER", "PROGRAM", "RATE", "EPOCHS"), help="used by itself")
    given = parser.parse_args()
    if given.child:
        folder, program, rate, epochs = given.child
        return child(Path(folder), program, float(rate), int(epochs))
    corpus = planted(20_000, 8_000, 80) if given.quick else planted(500_000, 200_000, 2_000)
    rates = RATES[:1] if given.quick else RATES
    with tempfile.TemporaryDirectory(prefix="endcap-benchmark-") as name:
        folder = Path(name)
        np.savez(folder / "corpus.npz", **corpus._asdict())
        sessions = np.split(corpus.tokens, corpus.offsets[1:-1])
        (folder / "corpus.txt").write_text("".join(" ".join(map(str, s)) + "\n" for s in sessions), encoding="ascii")
        tried = {(who, rate): outcome_of(folder, who, rate, EPOCHS) for who in PROGRAMS for rate in rates}
        best = {who: max(rates, key=lambda rate, who=who: tried[who, rate].precision) for who in PROGRAMS}
        ours = {EPOCHS: tried[OURS, best[OURS]]}
        needed = max(tried[who, best[who]].precision for who in TARGETS)
        for epochs in [n for n in range(1, LONGEST + 1) if n != EPOCHS]:
            ours[epochs] = outcome_of(folder, OURS, best[OURS], epochs)
            if max(outcome.precision for outcome in ours.values()) >= needed and epochs > EPOCHS:
                break
    rows = [_row(who, tried[who, best[who]], best[who], corpus) for who in PROGRAMS]
    rows += [_comparison(who, tried[who, best[who]], ours, share) for who, share in TARGETS.items()]
    data = f"planted clusters, {len(corpus.tokens):,} tokens, {len(corpus.cluster):,} items"
    report("skipgram", data, rows, given.json, quick=given.quick, notes=NOTES)
    return None


COMMAND = "python benchmarks/skipgram.py"


def _row(who: str, outcome: Outcome, rate: float, corpus: Corpus) -> Row:
    speed = len(corpus.tokens) * EPOCHS / outcome.cpu_seconds
    return Row(
        what=f"{who}: precision@{NEAREST} after {EPOCHS} epochs at its best rate, {rate}",
        ours=f"{outcome.precision:.4f}",
        reference=f"{outcome.seconds:.1f} s, {outcome.cpu_seconds:.1f} CPU-s, {speed:,.0f} tokens a CPU-second",
        command=COMMAND,
    )


def _comparison(who: str, peer: Outcome, ours: dict[int, Outcome], share: float) -> Row:
    """The shortest of our trainings that is as good as the peer's."""
    enough = [epochs for epochs in sorted(ours) if ours[epochs].precision >= peer.precision]
    what, target = f"time to the precision of {who}, {peer.precision:.4f}", f"at most 1/{round(1 / share)} of it"
    if not enough:
        return Row(what=what, ours=f"not reached in {max(ours)} epochs", target=target, met=False, command=COMMAND)
    epochs, own = enough[0], ours[enough[0]]
    wall, cpu = own.seconds / peer.seconds, own.cpu_seconds / peer.cpu_seconds
    return Row(
        what=what,
        ours=f"{own.seconds:.1f} s, {own.cpu_seconds:.1f} CPU-s ({epochs} epochs, {own.precision:.4f}): "
        f"1/{1 / wall:.1f} of the time, 1/{1 / cpu:.1f} of the CPU time",
        reference=f"{peer.seconds:.1f} s, {peer.cpu_seconds:.1f} CPU-s",
        target=target,
        met=wall <= share and cpu <= share,
        command=COMMAND,
    )


if __name__ == "__main__":
    main()
