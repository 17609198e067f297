"""Figures of a table, a file a figure: numbers from records first, then a picture of these numbers alone."""
