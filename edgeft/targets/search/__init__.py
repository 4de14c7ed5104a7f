"""The search for the fastest or smallest artefact that passes; it asks and is told, and runs nothing."""
