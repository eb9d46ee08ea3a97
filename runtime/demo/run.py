"""The demo: import real baskets, train, publish, serve a split, replay the next week, compare, watch."""

import shutil
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.table import Table

from bespoke.clock import to_ms
from bespoke.errors import ConfigError
from bespoke.events import UserId
from bespoke.models.base import Model
from bespoke.models.bundle import read_bundle
from bespoke.profiles import Profile
from bespoke.statistics.paired import Interval, clustered_difference
from ingestion.importer import ImportResult, import_files
from ingestion.mapping import load_mapping
from ingestion.messages import Raw, event_messages
from runtime.demo.journey import data_folder
from runtime.demo.replay import Ranked, Replayed, percentiles, rank_all, replay
from runtime.memory import PeakMemory
from runtime.progress import bars, console, import_progress, steps
from runtime.up import Installation, Say, say_where, stop_event
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.profiles import ProfileStore
from storage.settings import Settings

MARKER = ".bespoke-demo"
MODELS = ("als", "blend", "buy_again", "popularity")
POINTERS = {"champion": "blend", "challenger": "buy_again", "popular": "popularity"}
WINDOW = timedelta(days=30)
TITLE = "agreement with real baskets (a replay, not an experiment)"
