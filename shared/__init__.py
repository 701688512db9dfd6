"""The application behind the triggers in ``function_app.py``."""

__version__ = "0.1.0"
# What the app says it is, to storage and to the model.
USER_AGENT = f"image-embeddings/{__version__}"
