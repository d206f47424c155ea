"""A DICOM node that finds intracranial haemorrhage on head CT and re-orders the reading list."""

__version__ = "0.1.0"
