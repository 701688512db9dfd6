"""A setting is the same everywhere: in the code, in the template, in what azd passes on, and in the docs.

The code is asked by reading environments; what Bicep knows of its parameters is in ``infra/snapshots/parameters.json``.
"""

import json
import re
from typing import Any

import pytest

from shared.errors import SettingError
from shared.settings import read_settings
from tests.infra.deployments import INFRA, ROOT, app_settings, known_settings, parameters

# What the template finds out by itself.
DERIVED = {
    "AZURE_CLIENT_ID",
    "FOUNDRY_ENDPOINT",
    *(f"ImageStorage__{part}" for part in ("blobServiceUri", "queueServiceUri", "credential", "clientId")),
    *(f"AzureWebJobsStorage__{part}" for part in ("queueServiceUri", "accountName")),
}
# For emulators and for endpoints without Entra: a deployment has no key.
NEVER_DEPLOYED = {"FOUNDRY_API_KEY", "ImageStorage"}
# Where azd's name is not the parameter's in capitals.
AZD = {
    "environmentName": "AZURE_ENV_NAME",
    "location": "AZURE_LOCATION",
    "principalId": "AZURE_PRINCIPAL_ID",
    "principalType": "AZURE_PRINCIPAL_TYPE",
    "resourceGroupName": "RESOURCE_GROUP",
}

# What is passed on otherwise: in a deployed environment azd has this name, and in an older one somebody has set it.
PASSED = {"resourceGroupName": "${RESOURCE_GROUP=${AZURE_RESOURCE_GROUP}}"}

# The settings that are names of deployments.
DEPLOYMENTS = {"modelDeploymentName": "FOUNDRY_MODEL", "queryModelDeploymentName": "FOUNDRY_QUERY_MODEL"}


def azd_name(parameter: str) -> str:
    return AZD.get(parameter) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", parameter).upper()


def setting_of(parameter: str) -> str | None:
    """The setting of the code that a parameter becomes, if it becomes one."""
    name = DEPLOYMENTS.get(parameter) or azd_name(parameter)
    return name if name in known_settings() else None


SETTINGS = {setting: parameter for parameter in parameters() if (setting := setting_of(parameter))}
# The settings that a default of the template decides: not the deployment's name, and no length of vectors.
DEFAULTS = {
    setting: str(parameters()[parameter]["defaultValue"])
    for setting, parameter in SETTINGS.items()
    if parameters()[parameter]["defaultValue"] not in ("", 0)
}


def accepted(**given: str) -> bool:
    """Whether the app starts with these of its settings in place of the deployed ones."""
    try:
        read_settings({**app_settings(), **given})
    except SettingError:
        return False
    return True


def test_every_setting_of_the_code_is_a_parameter_or_follows_from_what_is_deployed() -> None:
    assert known_settings() - DERIVED - NEVER_DEPLOYED == SETTINGS.keys()
    assert NEVER_DEPLOYED.isdisjoint(app_settings())


@pytest.mark.parametrize("setting", DEFAULTS)
def test_a_default_of_the_template_is_that_of_the_code(setting: str) -> None:
    without = {name: value for name, value in app_settings().items() if name != setting}
    assert app_settings()[setting] == DEFAULTS[setting]
    assert read_settings(without) == read_settings(app_settings())


def test_without_a_length_of_vectors_the_code_asks_for_none() -> None:
    assert parameters()["embeddingDimensions"]["defaultValue"] == 0
    assert app_settings()["EMBEDDING_DIMENSIONS"] == ""
    assert read_settings(app_settings()).embedding_dimensions is None


# Zero is what leaves the length of vectors to the model.
NUMBERS = [
    (setting, max(1, parameters()[name]["minValue"]), parameters()[name]["maxValue"])
    for setting, name in SETTINGS.items()
    if parameters()[name]["type"] == "int"
]


@pytest.mark.parametrize(("setting", "least", "most"), NUMBERS)
def test_template_and_code_have_the_same_bounds_for_a_number(setting: str, least: int, most: int) -> None:
    # A model that is not known may have vectors of any length.
    given = [{"FOUNDRY_MODEL": "another", setting: str(value)} for value in (least - 1, least, most, most + 1)]
    assert [accepted(**each) for each in given] == [False, True, True, False]


@pytest.mark.parametrize("setting", ["IMAGES_CONTAINER", "EMBEDDINGS_CONTAINER"])
def test_template_and_code_have_the_same_bounds_for_the_name_of_a_container(setting: str) -> None:
    bounds = parameters()[SETTINGS[setting]]
    lengths = (bounds["minLength"] - 1, bounds["minLength"], bounds["maxLength"], bounds["maxLength"] + 1)
    taken = [length for length in lengths if accepted(**{setting: "x" * length})]
    assert taken == [bounds["minLength"], bounds["maxLength"]]


def test_template_and_code_have_the_same_choices() -> None:
    chosen = {
        setting: choices for setting, name in SETTINGS.items() if (choices := parameters()[name].get("allowedValues"))
    }
    assert chosen.keys() == {"QUERY_RECORDS", "SEARCH"}
    for setting, choices in chosen.items():
        assert all(accepted(**{setting: choice}) for choice in choices)
        with pytest.raises(SettingError, match=f"one of {', '.join(choices)}"):
            read_settings({**app_settings(), setting: "another"})


def test_every_setting_that_is_given_reaches_the_app() -> None:
    source = (INFRA / "snapshots/every-setting.bicepparam").read_text()
    given = {name: value.strip("'") for name, value in re.findall(r"^param (\w+) = (.+)$", source, re.MULTILINE)}
    deployed = app_settings("every-setting")
    for setting, parameter in SETTINGS.items():
        assert given[parameter] != str(parameters()[parameter]["defaultValue"]), parameter
        assert deployed[setting] == given[parameter]


def test_a_dash_leaves_texts_and_metadata_of_images_alone_since_azd_takes_nothing_for_the_default() -> None:
    for setting in ("TEXT_METADATA", "IMAGE_METADATA"):
        assert app_settings("embed-v4")[setting] == ""
        assert not accepted(**{setting: "-"})


def test_azd_passes_on_every_parameter_with_the_templates_default() -> None:
    passed = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    assert {name: options["value"] for name, options in passed.items()} == {
        name: f"${{{azd_name(name)}{'=' + default if default else ''}}}"
        for name, default in ((name, in_json(options)) for name, options in parameters().items())
    } | PASSED


def in_json(parameter: dict[str, Any]) -> str:
    """A default as azd reads it back: text as it is, all else as JSON; empty where there is none."""
    default = parameter.get("defaultValue", "")
    return default if isinstance(default, str) else json.dumps(default)


def rows() -> dict[str, tuple[str, str]]:
    """What docs/deploy.md says of each name for azd: its default, and its values."""
    lines = [line.split("|") for line in (ROOT / "docs/deploy.md").read_text().splitlines() if line.startswith("| `")]
    assert len(lines) == len({name for _, name, *_ in lines}), "a name stands in one row"
    return {name.strip(" `"): (default.strip(), values.strip()) for _, name, default, values, *_ in lines}


def test_the_docs_have_a_row_for_every_parameter() -> None:
    assert rows().keys() == {azd_name(name) for name in parameters()} - {"AZURE_PRINCIPAL_ID", "AZURE_PRINCIPAL_TYPE"}


@pytest.mark.parametrize("name", [name for name in parameters() if azd_name(name) in rows()])
def test_the_docs_say_the_default_and_the_bounds_of_the_template(name: str) -> None:
    parameter = parameters()[name]
    default, values = rows()[azd_name(name)]
    match parameter:
        case {"defaultValue": str(text)} if text:
            assert default == f"`{text}`"
        case {"defaultValue": bool() | list() as value}:
            assert default == f"`{json.dumps(value)}`"
        case {"defaultValue": int(number)}:
            assert default == str(number)
    match parameter:
        case {"allowedValues": choices}:
            assert values == ", ".join(
                f"`{choice}`" if isinstance(choice, str) else str(choice) for choice in choices if choice
            )
        case {"minValue": least, "maxValue": most}:
            assert values == f"{least} to {most}"
        case {"minValue": least}:
            assert values == f"from {least}"
        case {"type": "bool"}:
            assert values == "`true`, `false`"


def test_the_readme_has_a_row_for_every_setting_with_the_codes_default() -> None:
    table = re.findall(r"^\| (`[\w`, ]+`) \| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    defaults: dict[str, str] = {}
    for names, values in table:
        listed = re.findall(r"`(\w+)`", names)
        defaults |= zip(listed, [value.strip("` ") for value in values.split(", ")] * len(listed), strict=False)
    assert (
        known_settings() - {"AzureWebJobsStorage__queueServiceUri", "AzureWebJobsStorage__accountName"}
        <= defaults.keys()
    )
    assert {setting: defaults[setting] for setting in DEFAULTS} == DEFAULTS
