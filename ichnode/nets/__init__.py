"""The networks and what makes them repeatable: preprocessing, bundles, calibration, the registry.

Shared by serving and training. `manifest`, `manifest_file` and `registry` are plain files and need
no torch.
"""
