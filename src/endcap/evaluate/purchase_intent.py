"""The purchase-intent protocol: do the lists of what people looked at hold what they later carted or bought?

    Etsy, WWW '20 Companion, section 4; papers/item_interaction.md, A5.

purchase_intent@k          the headline. For each test session the union of the k-lists of all its sources; a target is
                           an event with an intent interaction after the session's first source. A target is matched
                           only against the lists of *other* items. Micro average over targets.
purchase_intent_own@k      the same with every source item at the head of its own list (an event never matches itself).
purchase_intent_causal@k   only sources that came before the target.
purchase_intent_session@k  the headline's mean by session.
purchase_intent_last4@k    one case for each target: the lists of the person's last four different sources before it,
                           from whatever session, also of the training part.
coverage_items             share of active items (acted on in the training part) with a list for this question.
coverage_traffic           share of the test part's sources that have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Items, RelatesItems
from endcap.errors import InputError
from endcap.evaluate.outcomes import Cases, Outcomes, chance, sample
from endcap.evaluate.segments import counts_of
from endcap.metrics import IntentCases, intent_cases, intent_ranks, mean_by_case, recent_cases
from endcap.progress import progress
from endcap.shop import Shop

BUDGETS = (10, 40, 200)
CELLS_AT_ONCE = 1 << 20  # of a block of lists
ANY = "any"


@dataclass(frozen=True)
class Question:
    """Because you `source` this, what of the `intents` do lists of items to `want` foresee?

    Attributes:
        source: code of an interaction, or None for any; want: code; intents: codes of the targets.
    """

    source: int | None
    want: int
    intents: tuple[int, ...]


def question(train: Shop, source: str | None = None, want: str | None = None) -> Question:
    """The question by names; without them from the weakest interaction of the log to its weakest intent.

    Raises:
        InputError: for a name the shop does not have.
    """
    codes = train.interactions
    occurring = np.unique(train.positives.interaction)
    learnt = [code for code in codes.intents if code in occurring]
    intents, weakest = (codes.intents, learnt[0]) if learnt else ((int(occurring[-1]),), int(occurring[-1]))
    source_code = None if source == ANY else int(occurring[0]) if source is None else codes.code(source)
    return Question(source_code, weakest if want is None else codes.code(want), intents)


def question_name(train: Shop, asked: Question) -> str:
    """As "click:cart"."""
    source = ANY if asked.source is None else train.interactions.name(asked.source)
    return f"{source}:{train.interactions.name(asked.want)}"


class PurchaseIntent:
    """The cases of one question, made once, and the outcomes of every model on them."""

    name = "purchase-intent"

    def __init__(
        self, train: Shop, test: Shop, asked: Question, *, budgets: Sequence[int] = BUDGETS, seed: int = 0
    ) -> None:
        self.asked, self.budgets = asked, sorted(set(budgets))
        self.kinds = len(train.interactions)
        self.question_name = question_name(train, asked)
        events = test.positives
        self.intent = intent_cases(events.session, events.item, events.interaction, asked.source, asked.intents)
        if self.intent.n_targets == 0:
            raise InputError(
                f"purchase-intent {self.question_name}: no test session has a target after a source; "
                "use a longer --test, other interactions (--source, --want), or --protocol next-item"
            )
        self.recent, recent_user = _recent(train, test, asked)
        self.target_user = events.user[self.intent.target_row]
        self.target_interaction = events.interaction[self.intent.target_row]
        self.known = counts_of(train.positives.user, self.target_user)
        rng = chance(seed)
        self.active = sample(np.unique(train.positives.item), rng)
        is_source = np.ones(len(events), bool) if asked.source is None else events.interaction == asked.source
        self.traffic = sample(np.flatnonzero(is_source), rng)
        self.traffic_item, self.traffic_seen_as = events.item[self.traffic], events.interaction[self.traffic]
        self.outcomes = Outcomes(
            targets=self.target_user,
            sessions=self.target_user[self.intent.case_offsets[:-1]],
            recent=recent_user,
            active=self.active,
            traffic=events.user[self.traffic],
        )

    @property
    def cases(self) -> Cases:
        return Cases(
            "targets", self.headline, self.intent.target_item, self.target_user, self.target_interaction, self.known
        )

    @property
    def data(self) -> dict[str, Any]:
        return {"question": self.question_name, "sessions": self.intent.n_cases, "targets": self.intent.n_targets}

    @property
    def headline(self) -> str:
        return f"purchase_intent@{self.budgets[-1]}"

    @property
    def shown(self) -> list[list[str]]:
        """Metrics to print, table by table."""
        variants = [f"purchase_intent_{kind}@{self.budgets[-1]}" for kind in ("own", "causal", "session", "last4")]
        return [[f"purchase_intent@{k}" for k in self.budgets], variants, ["coverage_items", "coverage_traffic"]]

    def measure(self, name: str, model: RelatesItems, *, show: bool = False) -> None:
        """Ask one model for all lists and keep its outcomes.

        Raises:
            InputError: if the model has no item-to-item lists.
        """
        if not isinstance(model, RelatesItems):
            raise InputError(f"{name} relates no items to items; compare it with --protocol next-item")
        longest = self.budgets[-1]
        n_lists = len(self.intent.source_item) + len(self.recent.source_item)
        with progress(f"asking {name}", n_lists, shown=show) as bar:

            def lists(items: Items, seen_as: int) -> Items:
                found, _ = model.related_batch(items, seen_as, self.asked.want, longest)
                bar.advance(len(items))
                return found

            block = max(1, CELLS_AT_ONCE // longest)
            ranks = intent_ranks(self.intent, lists, block=block)
            recent = intent_ranks(self.recent, lists, block=block).union
        add = self.outcomes.add
        for k in self.budgets:
            hits = ranks.union < k
            add("targets", name, f"purchase_intent@{k}", hits)
            add("targets", name, f"purchase_intent_own@{k}", hits | self.intent.own)
            add("targets", name, f"purchase_intent_causal@{k}", ranks.causal < k)
            add("sessions", name, f"purchase_intent_session@{k}", mean_by_case(self.intent, hits))
            add("recent", name, f"purchase_intent_last4@{k}", recent < k)
        add("active", name, "coverage_items", self._active_covered(model))
        add("traffic", name, "coverage_traffic", self._traffic_covered(model))

    def _active_covered(self, model: RelatesItems) -> NDArray[np.bool_]:
        """Which of the active items have a list, seen as the source (as anything where any is a source)."""
        seen = range(self.kinds) if self.asked.source is None else [self.asked.source]
        lists = [model.related_batch(self.active, kind, self.asked.want, 1)[0][:, 0] for kind in seen]
        return np.asarray((np.stack(lists) >= 0).any(axis=0))

    def _traffic_covered(self, model: RelatesItems) -> NDArray[np.bool_]:
        covered = np.zeros(len(self.traffic), bool)
        for kind in np.unique(self.traffic_seen_as):
            rows = self.traffic_seen_as == kind
            items, back = np.unique(self.traffic_item[rows], return_inverse=True)
            covered[rows] = (model.related_batch(items, int(kind), self.asked.want, 1)[0][:, 0] >= 0)[back]
        return covered


def _recent(train: Shop, test: Shop, asked: Question) -> tuple[IntentCases, NDArray[np.int32]]:
    """The last-four cases, and the user of each."""
    past, later = train.positives, test.positives
    past = past.where(np.isin(past.user, later.user))
    user = np.concatenate([past.user, later.user])
    order = np.lexsort((np.concatenate([past.time, later.time]), user))
    is_test = np.append(np.zeros(len(past), bool), np.ones(len(later), bool))[order]
    user = user[order]
    item = np.concatenate([past.item, later.item])[order]
    interaction = np.concatenate([past.interaction, later.interaction])[order]
    cases = recent_cases(user, item, interaction, is_test, asked.source, asked.intents)
    return cases, user[cases.target_row]
