"""The door: takes images from scanners, makes them durable, says so, and then records them."""
