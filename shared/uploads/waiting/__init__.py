"""What waits for the model's quota, and the dispatcher that works it off."""
