"""The proof that no image is lost: quotas, faults, kills and races on the local stack. Run ``python -m proof``."""
