"""The model and files that the user gives, as artefacts; what they alone can tell is told in the first second."""
