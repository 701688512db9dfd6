"""What a careful person writes from the public samples: see each module for which."""
