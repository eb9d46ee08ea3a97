"""Services: what each kind of model reads. A model bundle names its service."""

from feast import FeatureService

from views import user_state

als = FeatureService(
    name="als",
    features=[user_state],
    description="Matrix factorisation: recent items, for folding in people that the model has not seen.",
)
buy_again = FeatureService(
    name="buy_again",
    features=[user_state],
    description="Personal frequency: recent items with their times.",
)
popularity = FeatureService(
    name="popularity",
    features=[user_state],
    description="The same for everybody; the state serves segments and filters.",
)
blend = FeatureService(
    name="blend",
    features=[user_state],
    description="Personal frequency and a model together: recent items with their times.",
)
covisitation = FeatureService(
    name="covisitation",
    features=[user_state],
    description="What others visited around the same items: recent items with their times.",
)
content = FeatureService(
    name="content",
    features=[user_state],
    description="Likeness to recent items by what the catalog says: recent items with their times.",
)
two_tower = FeatureService(
    name="two_tower",
    features=[user_state],
    description="Two towers: recent items with their times, for placing people by what they took.",
)
propensity = FeatureService(
    name="propensity",
    features=[user_state],
    description="How likely somebody buys or stays away: every feature of the state, and its rhythm.",
)
