"""What a series says that its slices alone do not: the sequence stage, and weak labels."""
