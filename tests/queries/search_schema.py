"""What Azure AI Search takes as an index, as its REST API is published.

The names and types are those of ``specification/search/data-plane/Search/stable/2026-04-01/search.json`` in
Azure/azure-rest-api-specs, for what ``infra/search/index.json`` is made of. Analyzers, synonyms, encryption and ranking
are left out. What is not here is refused.
"""

from typing import Annotated, Literal

import msgspec

VERSION = "2026-04-01"

type _Edm = Literal[
    "Edm.String",
    "Edm.Int32",
    "Edm.Int64",
    "Edm.Double",
    "Edm.Boolean",
    "Edm.DateTimeOffset",
    "Collection(Edm.Single)",
    "Collection(Edm.Half)",
    "Collection(Edm.Int16)",
    "Collection(Edm.SByte)",
]


class _Definition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    pass


class SearchField(_Definition, frozen=True, kw_only=True):
    name: str
    type: _Edm
    key: bool = False
    retrievable: bool | None = None
    stored: bool | None = None
    searchable: bool | None = None
    filterable: bool | None = None
    sortable: bool | None = None
    facetable: bool | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=2, le=4096)] | None = None
    vector_search_profile: str | None = None


class HnswParameters(_Definition, frozen=True, kw_only=True):
    m: int = 4
    ef_construction: int = 400
    ef_search: int = 500
    metric: Literal["cosine", "euclidean", "dotProduct", "hamming"] = "cosine"


class Hnsw(_Definition, frozen=True, kw_only=True, tag_field="kind", tag="hnsw"):
    name: str
    hnsw_parameters: HnswParameters = HnswParameters()


class ScalarQuantizationParameters(_Definition, frozen=True, kw_only=True):
    quantized_data_type: Literal["int8"] | None = None


class RescoringOptions(_Definition, frozen=True, kw_only=True):
    enable_rescoring: bool | None = True
    default_oversampling: Annotated[float, msgspec.Meta(ge=1)] | None = None
    rescore_storage_method: Literal["preserveOriginals", "discardOriginals"] | None = "preserveOriginals"


class ScalarQuantization(_Definition, frozen=True, kw_only=True, tag_field="kind", tag="scalarQuantization"):
    name: str
    scalar_quantization_parameters: ScalarQuantizationParameters = ScalarQuantizationParameters()
    rescoring_options: RescoringOptions | None = None
    truncation_dimension: int | None = None


class BinaryQuantization(_Definition, frozen=True, kw_only=True, tag_field="kind", tag="binaryQuantization"):
    name: str
    rescoring_options: RescoringOptions | None = None
    truncation_dimension: int | None = None


class WebApiParameters(_Definition, frozen=True, kw_only=True):
    uri: str
    http_headers: dict[str, str] | None = None
    http_method: str | None = None
    timeout: str | None = None
    auth_resource_id: str | None = None


class WebApiVectorizer(_Definition, frozen=True, kw_only=True, tag_field="kind", tag="customWebApi"):
    name: str
    custom_web_api_parameters: WebApiParameters


class VectorSearchProfile(_Definition, frozen=True, kw_only=True):
    name: str
    algorithm: str
    vectorizer: str | None = None
    compression: str | None = None


class VectorSearch(_Definition, frozen=True, kw_only=True):
    profiles: list[VectorSearchProfile] = []
    algorithms: list[Hnsw] = []
    vectorizers: list[WebApiVectorizer] = []
    compressions: list[ScalarQuantization | BinaryQuantization] = []


class SearchIndex(_Definition, frozen=True, kw_only=True):
    name: str
    fields: list[SearchField]
    description: str | None = None
    vector_search: VectorSearch | None = None
