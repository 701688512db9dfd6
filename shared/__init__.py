"""The application: every use case and every part that the triggers in ``function_app.py`` call."""

__version__ = "0.1.0"
