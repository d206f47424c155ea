"""Training: from simulated scans to a bundle that the node runs. Never imported by ichnode."""
