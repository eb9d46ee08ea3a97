"""Services: what each kind of model reads, and no more. A model bundle names its service.

Every service of people carries, besides its own columns, what an answer needs of anybody: how old the state is, up to
which message it goes, and which segments the person is in.
"""

from feast import FeatureService, FeatureView

from views import item_state, user_state

ALWAYS = ["received_ms", "version", "segments"]
RECENT = ["recent_ms", "recent_items", "recent_interactions", "recent_quantities"]
"""The newest lines as models read them: when, which item, what was done with it, how many. A line's price, category and
brand are for features and segments."""


def _columns(names: list[str]) -> FeatureView:
    """Return the view of states with these columns only, and those that every service carries."""
    wanted = {*names, *ALWAYS}
    named: FeatureView = user_state[[field.name for field in user_state.features if field.name in wanted]]
    return named


als = FeatureService(
    name="als",
    features=[_columns(RECENT)],
    description="Matrix factorisation: recent lines, for folding in people that the model has not seen.",
)
buy_again = FeatureService(
    name="buy_again",
    features=[_columns(RECENT)],
    description="Personal frequency: recent lines with their times.",
)
popularity = FeatureService(
    name="popularity",
    features=[_columns(RECENT)],
    description="The same for everybody; recent lines are what reasons name and what may be left out as seen.",
)
blend = FeatureService(
    name="blend",
    features=[_columns(RECENT)],
    description="Personal frequency and a model together: recent lines with their times.",
)
covisitation = FeatureService(
    name="covisitation",
    features=[_columns(RECENT)],
    description="What others visited around the same items: recent lines with their times.",
)
content = FeatureService(
    name="content",
    features=[_columns(RECENT)],
    description="Likeness to recent items by what the catalog says: recent lines with their times.",
)
two_tower = FeatureService(
    name="two_tower",
    features=[_columns(RECENT)],
    description="Two towers: recent lines with their times, for placing people by what they took.",
)
propensity = FeatureService(
    name="propensity",
    features=[user_state],
    description="How likely somebody buys or stays away: every column, since signals read the whole state.",
)
profile = FeatureService(
    name="profile",
    features=[user_state],
    description="The whole state, for showing a profile and for conditions of segments over any feature.",
)
items = FeatureService(
    name="items",
    features=[item_state],
    description="What everybody together does with an item: its whole state.",
)
