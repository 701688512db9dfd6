"""Turn any picture into the PNG that the model accepts."""
