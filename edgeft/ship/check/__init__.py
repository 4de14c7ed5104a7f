"""`edgeft check`: whether a new artefact is worse than a released one in accuracy, latency or size."""
