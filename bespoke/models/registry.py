"""Every family of models, by its kind: the one list that training, bundles and config files go by."""

from collections.abc import Mapping

from bespoke.errors import NotFound, shown
from bespoke.models.als import Als
from bespoke.models.base import Model
from bespoke.models.blend import Blend
from bespoke.models.buy_again import BuyAgain
from bespoke.models.content import Content
from bespoke.models.covisitation import Covisitation
from bespoke.models.popularity import Popularity
from bespoke.models.two_tower import TwoTower

MODELS: Mapping[str, type[Model]] = {
    Popularity.kind: Popularity,
    BuyAgain.kind: BuyAgain,
    Als.kind: Als,
    Blend.kind: Blend,
    TwoTower.kind: TwoTower,
    Covisitation.kind: Covisitation,
    Content.kind: Content,
}


def model_of_kind(kind: str) -> type[Model]:
    """Return the model class of a kind.

    Raises:
        NotFound: names the kinds there are.
    """
    try:
        return MODELS[kind]
    except KeyError:
        raise NotFound(f"model kind {shown(kind)}, expected one of {', '.join(MODELS)}") from None
