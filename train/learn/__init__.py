"""Fitting networks: plain loops, resumable, on one CPU, one GPU or many."""
