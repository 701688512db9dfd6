"""How a query is asked: bodies, forms and data URLs, the API's own format and that of searches."""
