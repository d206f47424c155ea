"""The stage that looks for blood: a frozen set of instances in, a result or a refusal out."""
