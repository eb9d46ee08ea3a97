"""From the lake to published model bundles, on Ray."""
