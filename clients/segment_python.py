"""Segment's own Python SDK (`pip install segment-analytics-python`) with Bespoke as its host.

Usage: BESPOKE_KEY=... python clients/segment_python.py [URL]. The key is the write key: it needs the scope ingest.
"""

import os
import sys

from segment.analytics.client import Client


def main(url: str, key: str) -> None:
    """Send a little of everything, and wait until all of it is stored."""
    failures: list[Exception] = []
    client = Client(key, host=f"{url}/collect", on_error=lambda error, _: failures.append(error))
    client.identify("alice", {"plan": "pro"})
    client.track("alice", "Product Viewed", {"product_id": "p1", "price": 9.5, "quantity": 1})
    client.track("alice", "Order Completed", {"products": [{"product_id": "p1", "price": 9.5, "quantity": 2}]})
    client.page("alice", "Docs", "Home", {"url": "https://example.org"})
    client.shutdown()
    if failures:
        sys.exit(f"{len(failures)} batches were not stored, the first since: {failures[0]}")
    print("stored")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000", os.environ["BESPOKE_KEY"])
