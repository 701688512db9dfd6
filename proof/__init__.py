"""The proof that no image is lost: whatever may go wrong, done to the app on the local stack. Run ``python -m proof``.

An image is lost when, once everything has settled, it has no record made from its current bytes, or has a failure
record. A record without an image counts as lost too. Every scenario has images under its own prefix, so several can
take turns on one stack. All images are different and need no preparation: the model gets the image's own bytes, so each
call tells which image it was for.
"""

from local.azurite import REPO_ROOT

# The app as it is deployed, but for its clock (proof/clock.py): some scenarios run it in place of the repository's own.
APP = REPO_ROOT / "proof" / "app"
