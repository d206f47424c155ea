"""What is in the data, as pictures, and whether the metadata alone gives the answer away."""
