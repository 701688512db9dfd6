"""What a careful developer writes from the public samples; each module names them."""
