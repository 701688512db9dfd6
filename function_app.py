"""Every trigger of the app, a few lines each: the table of contents. ``shared`` does the work."""

import logging
import os
from contextlib import suppress

import azure.functions as func

from shared.application import application, keep_for_later
from shared.audit.reconcile import ReconcileRequest
from shared.errors import SettingError
from shared.gallery.page import INDEX
from shared.log import Report, quiet_libraries
from shared.operations.watch import SCHEDULE
from shared.parsing import learn_shapes
from shared.settings import read_settings, read_storage_settings
from shared.storage.queues import QUEUE, REQUESTS_POISON, UPLOADS_POISON
from shared.triggers import gallery as gallery_routes
from shared.triggers import http, openapi, routes
from shared.triggers.blob_name import BlobName

quiet_libraries()
learn_shapes("shared")
problem: str | None = None
try:
    read_settings(os.environ)
except SettingError as error:
    problem = str(error)
    Report(outcome="error", message=problem).log("bad_settings", logging.ERROR)

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
uploads, work, api = func.Blueprint(), func.Blueprint(), http.Routes()
# The host resolves %NAME% from the app settings but knows no defaults, so they are repeated here. It refuses
# what cannot be the name of a container, so an invalid setting is left out.
prefix = "%QUEUE_PREFIX%" if os.environ.get("QUEUE_PREFIX") else ""
images = "%IMAGES_CONTAINER%" if os.environ.get("IMAGES_CONTAINER") and not problem else "images"
audit_schedule = "%RECONCILE_SCHEDULE%" if os.environ.get("RECONCILE_SCHEDULE") else "0 0 3 * * *"


@uploads.blob_trigger("image", path=images + "/{name}", connection="ImageStorage", source=func.BlobSource.EVENT_GRID)
def embed_uploaded_image(image: BlobName) -> None:
    """A blob was written: sync its record. The binding carries the name only, never the bytes."""
    try:
        application().intake.uploaded(image.container, image.name)
    except SettingError:
        keep_for_later(image.container, image.name)


@work.queue_trigger("message", queue_name=prefix + QUEUE, connection="ImageStorage")
def embed_queued_image(message: func.QueueMessage) -> None:
    """A retry is due, a blob was deleted, or an audit or an export continues."""
    application().intake.queued(message.get_body())


@work.queue_trigger("message", queue_name=UPLOADS_POISON, connection="ImageStorage")
def record_failed_upload(message: func.QueueMessage) -> None:
    """The platform gave up on an upload: write its failure record."""
    application().intake.failed_upload(message.get_body())


@work.queue_trigger("message", queue_name=prefix + REQUESTS_POISON, connection="ImageStorage")
def record_failed_request(message: func.QueueMessage) -> None:
    """The platform gave up on a queued request: write the image's failure record."""
    application().intake.failed_request(message.get_body())


@api.route("models/images/embeddings", methods=["POST"])
def image_embeddings(req: func.HttpRequest) -> func.HttpResponse:
    """Embed images as queries, each with or without a text: the API's own route."""
    return routes.image_embeddings(req, application().settings, application().queries)


@api.route("models/embeddings", methods=["POST"])
def text_embeddings(req: func.HttpRequest) -> func.HttpResponse:
    """Embed texts as queries, in the same space as the images: the API's own route."""
    return routes.text_embeddings(req, application().settings, application().queries)


@api.route("models", methods=["GET"])
def models(req: func.HttpRequest) -> func.HttpResponse:
    """List the deployments that a request may name, in the shape of OpenAI's API."""
    return routes.models(application().settings)


@api.route("models/models", methods=["GET"])
def openai_models(req: func.HttpRequest) -> func.HttpResponse:
    """Do the same where OpenAI's clients ask for it: below the address that they are given for everything."""
    return routes.models(application().settings)


@api.route("models/info", methods=["GET"])
def model_info(req: func.HttpRequest) -> func.HttpResponse:
    """Return the name of the deployed model."""
    return routes.model_info(application().settings)


@api.route("search", methods=["POST"])
def search(req: func.HttpRequest) -> func.HttpResponse:
    """Find the stored images nearest to an image, a text, both, a vector or a stored image."""
    return routes.search(req, application().settings, application().search)


@api.route("skill", methods=["POST"])
def skill(req: func.HttpRequest) -> func.HttpResponse:
    """Embed documents for an Azure AI Search indexer: its custom skill."""
    return routes.azure_ai_search(req, application().azure_ai_search.skill)


@api.route("vectorizer", methods=["POST"])
def vectorizer(req: func.HttpRequest) -> func.HttpResponse:
    """Embed a query for an Azure AI Search index: its custom vectorizer."""
    return routes.azure_ai_search(req, application().azure_ai_search.vectorizer)


@api.route("reconcile", methods=["POST"])
def reconcile(req: func.HttpRequest) -> func.HttpResponse:
    """Compare all images with their records, and queue those that need another sync."""
    return routes.reconcile(req, application().reconcile.start)


@api.route("export", methods=["POST"])
def export(req: func.HttpRequest) -> func.HttpResponse:
    """Begin to write all records, or those since some time, as a table in Parquet."""
    return routes.export(req, application().exports.start)


@work.timer_trigger("timer", schedule=audit_schedule)
def reconcile_on_schedule(timer: func.TimerRequest) -> None:
    """Run the same audit on a schedule, nightly by default, because events can be lost."""
    application().reconcile.start(ReconcileRequest())


@app.timer_trigger("timer", schedule=SCHEDULE)
def watch(timer: func.TimerRequest) -> None:
    """Log every five minutes what is waiting and what is wrong with the deployment: alerts read this line."""
    try:
        application().watch()
    except SettingError as error:
        Report(outcome="error", message=str(error)).log("bad_settings", logging.ERROR)


@api.route("status", methods=["GET"])
def status(req: func.HttpRequest) -> func.HttpResponse:
    """Return progress and failures."""
    return routes.status(application().status.read)


@api.route("failures", methods=["GET"])
def failures(req: func.HttpRequest) -> func.HttpResponse:
    """Return which images have no embedding, and why."""
    return gallery_routes.failures(req, application().failures)


@api.route("images", methods=["GET"])
def newest_images(req: func.HttpRequest) -> func.HttpResponse:
    """Return the images that were embedded last."""
    return gallery_routes.newest_images(req, application().newest)


@api.route("records/{*name}", methods=["GET"])
def stored_record(req: func.HttpRequest) -> func.HttpResponse:
    """Return the record of an image, or why it has none."""
    return gallery_routes.stored_record(req, application().stored_records)


@api.route("thumbnails/{*name}", methods=["GET"])
def thumbnail(req: func.HttpRequest) -> func.HttpResponse:
    """Return a small JPEG of an image."""
    return gallery_routes.thumbnail(req, application().thumbnails)


@app.route("gallery", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@http.identified
def gallery(req: func.HttpRequest) -> func.HttpResponse:
    """Return the page of the gallery, which holds no data and asks for a key."""
    return gallery_routes.file(req, INDEX)


@app.route("gallery/{file}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@http.identified
def gallery_file(req: func.HttpRequest) -> func.HttpResponse:
    """Return a script, style sheet or icon of that page."""
    return gallery_routes.file(req, req.route_params.get("file", ""))


@api.route("openapi.json", methods=["GET"])
def openapi_document(req: func.HttpRequest) -> func.HttpResponse:
    """Return a description of these routes in OpenAPI 3.1."""
    return http.json_response(openapi.document())


@app.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@http.identified
def health(req: func.HttpRequest) -> func.HttpResponse:
    """Return whether the app works and, if not, what to fix."""
    try:
        checks = application().checks
        return routes.health(checks.recent(), checks.dimensions)
    except SettingError as error:
        return http.error_response(503, "bad_settings", str(error))


# While a setting is invalid, the app does no work and loses none. Queue messages wait while their function is not
# registered. Events of the webhook would not wait, so the upload function stays, and puts each event on the queue. If a
# setting of storage is invalid, it is left out as well, since a blob trigger might keep the host from starting. Then
# the host has no webhook: it answers 404, and Event Grid tries again.
app.register_functions(api.blueprint)
if problem is None:
    app.register_functions(work)
with suppress(SettingError):
    read_storage_settings(os.environ)
    app.register_functions(uploads)
