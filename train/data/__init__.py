"""From folders of scans to one memory-mapped cache of labelled slices."""
