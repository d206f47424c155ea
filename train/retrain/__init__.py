"""The road of a candidate: snapshot, split, train, calibrate, evaluate, gates, challenger."""
