"""DICOM: opened and checked, its slices put in order, its pixels decoded. Runs in the child process only."""
