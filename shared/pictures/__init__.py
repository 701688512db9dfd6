"""Any picture, turned into the PNG that the model accepts."""
