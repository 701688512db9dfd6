"""One image: its stored record made to match it."""
