"""Everything in the paper, each as it says, and its table with ours beside it."""
