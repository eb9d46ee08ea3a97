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
