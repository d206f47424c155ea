"""One module a dataset: its layout, its labels, its traps, its licence."""
