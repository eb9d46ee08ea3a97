"""Golden checks: a model that is about to be published answers a few real people sensibly."""

from collections.abc import Mapping

import numpy as np

from bespoke.errors import TrainingError
from bespoke.events import UserId
from bespoke.models.base import Model
from bespoke.models.history import History
from bespoke.models.index import top_k

PEOPLE = 50
ITEMS = 20


def golden_check(model: Model, known: Mapping[UserId, History]) -> None:
    """Score some people, and somebody whom nobody knows.

    Raises:
        TrainingError: scores are not finite, or a list is empty or repeats an item.
    """
    some = [known[user] for user in sorted(known)[:: max(1, len(known) // PEOPLE)][:PEOPLE]]
    at_ms = some[0].at_ms if some else 0
    histories = [*some, History(None, (), at_ms)]
    for history, scores_I in zip(histories, model.scores_batch(histories), strict=True):
        who = "somebody unknown" if history.user_id is None else "a person of the window"
        if not np.isfinite(scores_I).all():
            raise TrainingError(f"{model.kind} scores {who} with NaN or infinity; it is not published")
        rows = top_k(scores_I, k=ITEMS)
        if not len(rows):
            raise TrainingError(f"{model.kind} ranks nothing for {who}; it is not published")
