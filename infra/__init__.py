"""How the app is deployed: Bicep, hooks, queries over its logs, and the arithmetic of its cost."""
