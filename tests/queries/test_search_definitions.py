"""The definitions that Azure AI Search is given fit the records, the routes and the guide."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

import function_app
from shared.queries.azure_ai_search import MAX_RECORDS, WebApiVector
from shared.triggers.blob_name import BlobName
from shared.uploads.records import EmbeddingRecord
from tests.conftest import Cloud
from tests.drawing import picture
from tests.functions import bindings

DEFINITIONS = Path(__file__).parents[2] / "infra" / "search"


def definition(name: str) -> Any:
    return json.loads((DEFINITIONS / f"{name}.json").read_text())


def named(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in items}


EDM = {
    str: "Edm.String",
    str | None: "Edm.String",
    datetime: "Edm.DateTimeOffset",
    list[float]: "Collection(Edm.Single)",
}


def test_the_index_has_the_fields_of_a_record_with_their_types() -> None:
    record = {field.name: field.type for field in msgspec.structs.fields(EmbeddingRecord)}
    fields = named(definition("index")["fields"])
    assert [name for name, field in fields.items() if field.get("key")] == ["key"]
    for name, field in fields.items():
        if record.get(name) is int:
            assert field["type"] in {"Edm.Int32", "Edm.Int64"}
        elif name != "key":
            assert field["type"] == EDM[record[name]], name
    # IMAGE_MAX_BYTES may allow more than an Int32 holds.
    assert fields["bytes"]["type"] == "Edm.Int64"
    assert {"name", "url", "embedding"} <= set(fields)


def test_the_vector_s_profile_leads_to_the_vectorizer() -> None:
    index = definition("index")
    search = index["vectorSearch"]
    [vector] = [field for field in index["fields"] if field["type"].startswith("Collection")]
    assert vector["dimensions"] == "<dimensions>"
    profile = named(search["profiles"])[vector["vectorSearchProfile"]]
    assert profile["algorithm"] in named(search["algorithms"])
    parameters = named(search["vectorizers"])[profile["vectorizer"]]["customWebApiParameters"]
    route = bindings(function_app.api.blueprint, "vectorizer")["route"]
    assert parameters["uri"] == f"https://<function-app-host>/api/{route}"
    assert parameters["httpMethod"] == "POST"


def test_the_indexer_reads_records_from_the_data_source_into_the_index() -> None:
    indexer, source = definition("indexer"), definition("datasource")
    assert indexer["dataSourceName"] == source["name"]
    assert indexer["targetIndexName"] == definition("index")["name"]
    assert indexer["parameters"]["configuration"]["parsingMode"] == "json"
    assert source["container"]["query"] == "<space>/images/"
    assert "Key" not in source["credentials"]["connectionString"]


def test_deletions_are_detected_because_the_key_is_the_blob_s_path() -> None:
    assert "NativeBlobSoftDelete" in definition("datasource")["dataDeletionDetectionPolicy"]["@odata.type"]
    mappings = {mapping["targetFieldName"]: mapping for mapping in definition("indexer")["fieldMappings"]}
    assert mappings["key"]["sourceFieldName"] == "metadata_storage_path"
    assert mappings["key"]["mappingFunction"]["name"] == "base64Encode"


def test_fields_that_are_also_blob_metadata_are_mapped_to_the_record_s_content(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    function_app.embed_uploaded_image(BlobName(cloud.settings.images_container, "a.png"))
    blob = cloud.embeddings.get_blob_client(f"{cloud.settings.foundry_model}/images/a.png.json")
    fields = set(named(definition("index")["fields"]))
    mapped = {mapping["targetFieldName"]: mapping for mapping in definition("indexer")["fieldMappings"]}
    assert fields - {"key"} <= set(json.loads(blob.download_blob().readall()))
    ambiguous = fields & set(blob.get_blob_properties().metadata)
    assert ambiguous == set(mapped) - {"key"}
    for name in ambiguous:
        assert mapped[name]["sourceFieldName"] == f"/{name}"


def test_the_skill_of_the_skillset_is_this_app_s() -> None:
    [skill] = definition("skillset")["skills"]
    assert skill["uri"] == f"https://<function-app-host>/api/{bindings(function_app.api.blueprint, 'skill')['route']}"
    assert {item["name"] for item in skill["inputs"]} <= {"text", "image", "imageUrl"}
    assert [item["name"] for item in skill["outputs"]] == list(WebApiVector.__struct_fields__)
    assert skill["batchSize"] <= MAX_RECORDS
    # A request takes at most FOUNDRY_TIMEOUT, which is at most 220 s; the service waits for at most 230 s.
    assert skill["timeout"] == "PT230S"


def test_every_placeholder_and_file_is_explained() -> None:
    guide = (DEFINITIONS.parent.parent / "docs" / "azure-ai-search.md").read_text()
    files = sorted(DEFINITIONS.iterdir())
    assert [file.name for file in files] == ["datasource.json", "index.json", "indexer.json", "skillset.json"]
    for file in files:
        assert f"`{file.name}`" in guide
        for placeholder in re.findall(r"<[^>]+>", file.read_text()):
            assert f"`{placeholder}`" in guide, placeholder
            assert f"s|{placeholder}|" in guide or f's|\\"{placeholder}\\"|' in guide, placeholder
        assert f" {file.name}" in guide
