"""What people look at: the page, small pictures, the newest images, one image's record, and what failed and why."""
