"""Answers as DICOM objects: segmentations and structured reports, written in a child process beside their source."""
