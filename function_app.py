"""The triggers: a table of contents. Each says only what happened; what to do about it is in ``shared``."""

import logging
import os

import azure.functions as func

from shared import api, openapi
from shared.application import application
from shared.blob_name import BlobName
from shared.errors import SettingError
from shared.log import Report, quiet_libraries
from shared.queues import QUEUE, REQUESTS_POISON, UPLOADS_POISON
from shared.reconcile import ReconcileRequest
from shared.settings import read_settings
from shared.watch import SCHEDULE

quiet_libraries()
app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
work = func.Blueprint()
# The host resolves %NAME% from app settings and knows no default, so the defaults are spelt out.
images = "%IMAGES_CONTAINER%" if os.environ.get("IMAGES_CONTAINER") else "images"
nightly = "%RECONCILE_SCHEDULE%" if os.environ.get("RECONCILE_SCHEDULE") else "0 0 3 * * *"
problem: str | None = None


@work.blob_trigger("image", path=images + "/{name}", connection="ImageStorage", source=func.BlobSource.EVENT_GRID)
def embed_uploaded_image(image: BlobName) -> None:
    """A blob was written: bring its record up to date. The binding brings names only, never bytes."""
    application().intake.uploaded(image.container, image.name)


@work.queue_trigger("message", queue_name=QUEUE, connection="ImageStorage")
def embed_queued_image(message: func.QueueMessage) -> None:
    """A request has waited long enough, or a blob was deleted: look at the image again. Or an audit goes on."""
    application().intake.queued(message.get_body())


@work.queue_trigger("message", queue_name=UPLOADS_POISON, connection="ImageStorage")
def record_failed_upload(message: func.QueueMessage) -> None:
    """The platform gave up on an upload: say so in its failure record."""
    application().intake.failed_upload(message.get_body())


@work.queue_trigger("message", queue_name=REQUESTS_POISON, connection="ImageStorage")
def record_failed_request(message: func.QueueMessage) -> None:
    """The platform gave up on a queued request: say so in the image's failure record."""
    application().intake.failed_request(message.get_body())


@work.route("models/images/embeddings", methods=["POST"])
def image_embeddings(req: func.HttpRequest) -> func.HttpResponse:
    """Embed images, alone or with a text, for a query: the API's own route."""
    return api.image_embeddings(req, application().endpoint)


@work.route("models/embeddings", methods=["POST"])
def text_embeddings(req: func.HttpRequest) -> func.HttpResponse:
    """Embed texts into the space of the images, for a query: the API's own route."""
    return api.text_embeddings(req, application().endpoint)


@work.route("models/info", methods=["GET"])
def model_info(req: func.HttpRequest) -> func.HttpResponse:
    """Say which model answers here."""
    return api.json(api.model_info(application().settings.foundry_model))


@work.route("skill", methods=["POST"])
def skill(req: func.HttpRequest) -> func.HttpResponse:
    """Embed documents for an indexer of Azure AI Search: its custom skill."""
    return api.search(req, application().search.skill)


@work.route("vectorizer", methods=["POST"])
def vectorizer(req: func.HttpRequest) -> func.HttpResponse:
    """Embed a query for an index of Azure AI Search: its custom vectorizer."""
    return api.search(req, application().search.vectorizer)


@work.route("reconcile", methods=["POST"])
def reconcile(req: func.HttpRequest) -> func.HttpResponse:
    """Compare all images with their records, and have those looked at again that need it."""
    return api.audit(req, application().reconcile.start)


@work.timer_trigger("timer", schedule=nightly)
def reconcile_on_schedule(timer: func.TimerRequest) -> None:
    """Do so every night: events can be lost."""
    application().reconcile.start(ReconcileRequest())


@work.timer_trigger("timer", schedule=SCHEDULE)
def watch(timer: func.TimerRequest) -> None:
    """Log every few minutes what waits and what is wrong with the deployment: alerts are made from that."""
    application().watch()


@work.route("status", methods=["GET"])
def status(req: func.HttpRequest) -> func.HttpResponse:
    """Say how far the work is, and what went wrong."""
    return api.status(application().status.read)


@work.route("openapi.json", methods=["GET"])
def openapi_document(req: func.HttpRequest) -> func.HttpResponse:
    """Describe these routes in OpenAPI 3.1."""
    return api.json(openapi.document())


@app.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    """Say whether the app can do its work, and if not, what to mend."""
    if problem:
        # Said again: a line from the import of this module belongs to no invocation, and the host may drop it.
        Report(outcome="error", message=problem).log("bad_settings", logging.ERROR)
        return api.error(503, "bad_settings", problem)
    return api.health(application().checks())


try:
    read_settings(os.environ)
except SettingError as error:
    # An app that cannot run takes no work: events and messages wait for it, instead of failing one by one.
    problem = str(error)
    Report(outcome="error", message=problem).log("bad_settings", logging.ERROR)
else:
    app.register_functions(work)
