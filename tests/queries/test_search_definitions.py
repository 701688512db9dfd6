"""The definitions that Azure AI Search is given fit the records, the routes and the guide."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import function_app
from shared.queries.azure_ai_search import MAX_RECORDS, WebApiVector
from shared.triggers.blob_name import BlobName
from shared.uploads.records import EmbeddingRecord
from tests.conftest import Cloud
from tests.drawing import picture
from tests.functions import bindings
from tests.queries.search_schema import VERSION, ScalarQuantization, SearchIndex

DEFINITIONS = Path(__file__).parents[2] / "infra" / "search"
GUIDE = (DEFINITIONS.parent.parent / "docs" / "azure-ai-search.md").read_text()


def definition(name: str) -> Any:
    return json.loads((DEFINITIONS / f"{name}.json").read_text())


def named(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in items}


def deployed_index() -> dict[str, Any]:
    """The index as the guide sends it, of vectors of 1,024 numbers."""
    index: dict[str, Any] = json.loads((DEFINITIONS / "index.json").read_text().replace('"<dimensions>"', "1024"))
    return index


# The field of each key of metadata, and where in the record it is.
OF_METADATA = "metadata_<metadata-key>"
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
    assert fields.pop(OF_METADATA)["type"] == "Edm.String"
    for name, field in fields.items():
        if record.get(name) is int:
            assert field["type"] in {"Edm.Int32", "Edm.Int64"}
        elif name != "key":
            assert field["type"] == EDM[record[name]], name
    # IMAGE_MAX_BYTES may allow more than an Int32 holds.
    assert fields["bytes"]["type"] == "Edm.Int64"
    assert {"name", "url", "embedding"} <= set(fields)


def test_the_index_is_one_that_the_published_schema_allows() -> None:
    msgspec.convert(deployed_index(), SearchIndex)
    assert set(re.findall(r"api-version=([\w-]+)", GUIDE)) == {VERSION}


@pytest.mark.parametrize(
    ("of", "option"),
    [("compressions", {"rerankWithOriginalVectors": True}), ("profiles", {"compressionName": "int8"})],
)
def test_an_option_of_another_version_would_be_found(of: str, option: dict[str, Any]) -> None:
    index = deployed_index()
    index["vectorSearch"][of][0] |= option
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert(index, SearchIndex)


def test_vectors_are_searched_as_bytes_and_the_best_of_them_compared_in_full() -> None:
    index = msgspec.convert(deployed_index(), SearchIndex)
    [vector] = [field for field in index.fields if field.dimensions]
    assert index.vector_search is not None
    [profile] = [one for one in index.vector_search.profiles if one.name == vector.vector_search_profile]
    [compression] = [one for one in index.vector_search.compressions if one.name == profile.compression]
    assert isinstance(compression, ScalarQuantization)
    rescoring = compression.rescoring_options
    assert rescoring is not None
    # Without the originals there is nothing to compare with, and without more of them nothing to choose from.
    assert (rescoring.enable_rescoring, rescoring.rescore_storage_method) == (True, "preserveOriginals")
    assert (rescoring.default_oversampling or 0) > 1
    # Nobody is shown a vector, so no copy is kept to show; the service wants both said.
    assert (vector.stored, vector.retrievable) == (False, False)
    # Not every model's vectors may be cut off.
    assert compression.truncation_dimension is None


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
    cloud.upload("a.png", picture(), sku="B-17")
    function_app.embed_uploaded_image(BlobName(cloud.settings.images_container, "a.png"))
    blob = cloud.embeddings.get_blob_client(f"{cloud.settings.foundry_model}/images/a.png.json")
    fields = set(named(definition("index")["fields"]))
    mapped = {mapping["targetFieldName"]: mapping for mapping in definition("indexer")["fieldMappings"]}
    assert fields - {"key", OF_METADATA} <= set(json.loads(blob.download_blob().readall()))
    ambiguous = fields & set(blob.get_blob_properties().metadata)
    assert ambiguous == set(mapped) - {"key", OF_METADATA}
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


def test_every_placeholder_is_explained_and_filled_in() -> None:
    hooks = [(DEFINITIONS.parent / f"hooks/parts/index.{ending}").read_text() for ending in ("sh", "ps1")]
    files = sorted(DEFINITIONS.iterdir())
    assert [file.name for file in files] == ["datasource.json", "index.json", "indexer.json", "skillset.json"]
    for file in files:
        assert f"`{file.name}`" in GUIDE
        for placeholder in re.findall(r"<[^>]+>", file.read_text()):
            assert f"`{placeholder}`" in GUIDE, placeholder
            if file.stem == "skillset":
                assert f"s|{placeholder}|" in GUIDE
            else:
                assert all(placeholder in hook and file.name in hook for hook in hooks), placeholder
