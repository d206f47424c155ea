"""What of the simulator carries over: networks that learn without a part of it, side by side."""
