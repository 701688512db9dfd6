"""The application behind the triggers in ``function_app.py``."""

__version__ = "0.1.0"
