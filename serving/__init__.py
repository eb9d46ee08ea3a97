"""HTTP: the collector takes events in, the recommender answers; plain FastAPI, held by Serve deployments."""
