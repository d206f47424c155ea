"""Simulated head CT for training: one anatomy bent, textured and bled into in endless variety.

Where `ichnode.phantom.head` evaluates formulas of a head, this starts from maps of one (a template,
a procedural head, or a site's own scan without haemorrhage) and varies everything that a network
must not rely on: shape, contrast, texture, mimics of blood and the scanner, so that a real scan
looks like one more sample of it (domain randomisation). It runs on any torch device.

References
----------
Billot B et al., SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without
retraining, Medical Image Analysis 2023.
"""
