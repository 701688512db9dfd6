"""Colours as sRGB, whatever a file says that they are."""
