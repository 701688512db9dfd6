"""A stand-in for the model: one process that speaks both embeddings formats of Azure AI Foundry Models.

    python -m local.model --port 0 --also west

It has the embeddings routes of both formats with the service's checks and refusals, its headers and usage numbers, its
throttling, and the ways it fails, chosen by `POST /admin/behaviour`. Two things are simpler than in the service:
vectors come from colours and words (see `local.model.vectors`), not from a trained model, and the signature of a token
is not checked.
It can be several deployments: each further one has the same routes below its name (`/west/models/embeddings`), its own
quota, behaviour and calls. Loopback only.
"""
