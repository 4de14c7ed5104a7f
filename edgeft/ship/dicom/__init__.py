"""A bundle's answer to a DICOM series, as DICOM objects."""
