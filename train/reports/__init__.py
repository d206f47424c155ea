"""Labels from the text of radiology reports."""
