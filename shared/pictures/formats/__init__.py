"""Formats that Pillow reads wrongly, slowly or not at all: what is done before it, or in its place."""
