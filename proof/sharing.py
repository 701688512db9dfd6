"""Two apps with images of their own, one account, one queue and one container of embeddings, over several nights."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.site import LATENCY_MS, SPACE, Site, picture

# A message that the wrong app took again and again is hidden for an hour: here for 18 s (proof/app).
FAST = {"PROOF_SPEED": "1", "PROOF_HIDDEN": "200"}
CONTAINERS = ("images", "more-images")
_DAY = 24 * 3600


@dataclass(frozen=True)
class Sharing:
    """What became of the records of several apps."""

    images: int
    requested: int
    """Images that audits had synced, because their records were gone."""
    lost: int
    stolen: int
    """Records in the folder of another app than that of their image, and messages that no app took."""
    removed: int
    """Contents that images still used."""


def sharing(sites: Sequence[Site], *, images: int, nights: int) -> Sharing:
    """Change and lose some of each app's images and records by day, and audit all apps at once by night.

    The names of the images are the same in all apps. So are the bytes of every third image; those of the others differ
    from app to app. The sites run the app of ``proof/app`` with the settings ``FAST`` and the containers
    ``CONTAINERS``.
    """
    prefix = "shared/"
    sites[0].behave(latency_ms=LATENCY_MS)
    # The first app of a space keeps its records in the space's own folder.
    for number, site in enumerate(sites):
        site.upload({f"{prefix}first.png": picture(f"first {number}")})
        site.settle(prefix, "images")
    for number, site in enumerate(sites):
        names = [f"{prefix}{index}.png" for index in range(images)]
        site.upload({name: picture(name if index % 3 == 0 else f"{name} {number}") for index, name in enumerate(names)})
    _settle(sites, prefix)
    contents = _contents(sites[0])
    requested = 0
    for night in range(nights):
        for number, site in enumerate(sites):
            # What one app deletes the others keep.
            site.images.delete_blob(f"{prefix}{len(sites) * night + number}.png")
        _settle(sites, prefix)
        for site in sites:
            for name in sorted(site.stored("images", prefix))[night::4]:
                site.embeddings.delete_blob(f"{site.folder}/images/{name}.json")
        with ThreadPoolExecutor(len(sites)) as threads:
            requested += sum(report["requested"] for report in threads.map(Site.audit, sites))
        _settle(sites, prefix)
        for site in sites:
            site.post("proof/skip", seconds=_DAY).raise_for_status()
    return Sharing(
        images=sum(len(list(site.images.list_blob_names(name_starts_with=prefix))) for site in sites),
        requested=requested,
        lost=sum(len(site.lost(prefix)) for site in sites),
        stolen=sum(_strange(site, prefix) for site in sites),
        removed=len(contents - _contents(sites[0])),
    )


def _settle(sites: Sequence[Site], prefix: str) -> None:
    for site in sites:
        site.settle(prefix, "images")


def _contents(site: Site) -> set[str]:
    return set(site.embeddings.list_blob_names(name_starts_with=f"{SPACE}/contents/"))


def _strange(site: Site, prefix: str) -> int:
    """The records in this app's folder that are of images of another, and the messages that it dropped."""
    dropped = sum(1 for _ in site.embeddings.list_blob_names(name_starts_with=f"{site.folder}/dropped/"))
    records = site.embeddings.list_blob_names(name_starts_with=f"{site.folder}/images/{prefix}")
    containers: list[str] = [json.loads(site.embeddings.download_blob(name).readall())["container"] for name in records]
    return dropped + len(containers) - containers.count(site.images.container_name)
