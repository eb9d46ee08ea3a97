"""The library: what personalization is, in plain Python; it imports no framework and touches no file by itself."""
