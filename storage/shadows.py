"""What was shown beside what a shadow would have shown, slot by slot, from the lake by DuckDB."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from bespoke.events import RECOMMENDATION_SERVED, RECOMMENDATION_SHADOWED
from storage.exposures import database, vanishing
from storage.lake import Lake

MAX_PLACES = 50

_ITEMS = '[{"product_id": "VARCHAR", "position": "INTEGER", "propensity": "DOUBLE"}]'

_SLOTS = """
WITH happened AS (
    SELECT name, interaction, person, at_ms, lines, properties_json AS properties,
           json_extract_string(properties_json, '$.recommendation_id') AS list
    FROM read_parquet($paths, hive_partitioning = false)
    WHERE at_ms >= $since AND at_ms < $until AND type = 'track'
), would AS (
    SELECT list, unnest(from_json(json_extract(properties, '$.items'), $form)) AS item
    FROM happened
    WHERE name = $shadowed AND json_extract_string(properties, '$.variant') = $variant
      AND json_extract_string(properties, '$.experiment') = $experiment
), did AS (
    SELECT person, list, unnest(from_json(json_extract(properties, '$.items'), $form)) AS item
    FROM happened WHERE name = $served AND list IN (SELECT list FROM would)
), taken AS (
    SELECT DISTINCT list, unnest([line.item_id for line in lines]) AS item_id
    FROM happened WHERE list IS NOT NULL AND (name = $event OR interaction = $event)
)
SELECT did.person, did.list, did.item.position AS place, did.item.propensity AS propensity,
       would.item.position AS shadow_place, taken.item_id IS NOT NULL AS reward
FROM did
LEFT JOIN would ON would.list = did.list AND would.item.product_id = did.item.product_id
LEFT JOIN taken ON taken.list = did.list AND taken.item_id = did.item.product_id
WHERE did.item.propensity > 0 AND did.item.position <= $places
ORDER BY did.list, place
"""


def shadow_slots(
    lake: Lake, *, experiment: str, variant: str, event: str, since_ms: int, until_ms: int
) -> pa.Table | None:
    """Return the slots of every list beside which a shadow computed one; None where there is none.

    Columns ``person, list, place, propensity, shadow_place, reward``: places count from 1; ``shadow_place`` is where
    the shadow had the same item, null where it did not; ``reward`` whether ``event`` names this list and item.

    Raises:
        Unavailable: files of the lake kept vanishing.
    """
    asked: dict[str, Any] = {
        "since": since_ms,
        "until": until_ms,
        "form": _ITEMS,
        "shadowed": RECOMMENDATION_SHADOWED,
        "served": RECOMMENDATION_SERVED,
        "experiment": experiment,
        "variant": variant,
        "event": event,
        "places": MAX_PLACES,
    }

    def read(paths: list[Path]) -> pa.Table | None:
        if not paths:
            return None
        with database() as connection, vanishing():
            found = connection.execute(_SLOTS, {**asked, "paths": [str(path) for path in paths]}).fetch_arrow_table()
        return found if found.num_rows else None

    return lake.read_files("events", read)
