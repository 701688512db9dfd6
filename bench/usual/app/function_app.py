"""The usual function: bytes by binding, Pillow, a client per call, json.

After ``Azure-Samples/functions-quickstart-python-azd-eventgrid-blob`` (an Event Grid blob trigger with ``InputStream``,
the result written with the storage SDK) and the REST sample of "How to generate image embeddings with Azure AI Foundry
Models".
"""

import base64
import io
import itertools
import json
import logging
import os
import time

import azure.functions as func
import httpx
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient
from PIL import Image, ImageOps

app = func.FunctionApp()


@app.blob_trigger(arg_name="image", path="images/{name}", connection="ImageStorage", source=func.BlobSource.EVENT_GRID)
def embed_uploaded_image(image: func.InputStream) -> None:
    """Embed a new image and store the result."""
    name = (image.name or "").split("/", 1)[1]
    times = [time.perf_counter()]
    credential = ManagedIdentityCredential(client_id=os.environ["ImageStorage__clientId"])
    with Image.open(io.BytesIO(image.read())) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    picture.thumbnail((1568, 1568), Image.Resampling.LANCZOS)
    png = io.BytesIO()
    picture.save(png, format="PNG")
    times.append(time.perf_counter())
    token = credential.get_token("https://cognitiveservices.azure.com/.default").token
    body = {
        "model": os.environ["FOUNDRY_MODEL"],
        "input": [{"image": "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()}],
        "input_type": "document",
    }
    with httpx.Client(timeout=60) as client:
        answer = client.post(
            f"{os.environ['FOUNDRY_ENDPOINT']}/images/embeddings?api-version=2024-05-01-preview",
            content=json.dumps(body),
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        ).raise_for_status()
    times.append(time.perf_counter())
    record = {"name": name, "embedding": answer.json()["data"][0]["embedding"]}
    with BlobServiceClient(os.environ["ImageStorage__blobServiceUri"], credential=credential) as storage:
        storage.get_blob_client("embeddings", f"usual/{name}.json").upload_blob(json.dumps(record), overwrite=True)
    times.append(time.perf_counter())
    prepare, embed, write = (round((end - start) * 1000) for start, end in itertools.pairwise(times))
    logging.info("Embedded %s in ms: %s", name, json.dumps({"prepare": prepare, "embed": embed, "write": write}))
