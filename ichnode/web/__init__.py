"""The web room: the re-ordered list for people, health and metrics for machines; loopback only."""
