"""The corridor: the only room that joins the others. Nothing below imports it."""
