"""Features: profiles' states in Feast, online for serving and as they were at any time for training.

repository.py   the definitions of feature_repo/, registered and read for one installation
address.py      where online features rest: SQLite, Redis or PostgreSQL, by one address
encoding.py     keys and values as the bytes that Feast's online stores hold
sqlite.py       rows in SQLite          redis.py, postgres.py   the same in Redis and PostgreSQL
online.py       the latest state of each person
history.py      states as they were at some time

``import feast`` takes seconds, so it waits until something is read, pushed or applied.
"""

from storage.features.history import historical_features
from storage.features.online import OnlineFeatures, OnlineProfile, StateOfPerson
from storage.features.repository import FEATURE_REPO, apply_feature_repo

__all__ = [
    "FEATURE_REPO",
    "OnlineFeatures",
    "OnlineProfile",
    "StateOfPerson",
    "apply_feature_repo",
    "historical_features",
]
