"""docs/models.md says of each model what the code and the template know of it."""

import re

import pytest

from infra import plan
from shared.known_models import COHERE_PATH, FOUNDRY_PATH, MODELS, KnownModel
from tests.infra.deployments import ROOT, parameters

PAGE = (ROOT / "docs/models.md").read_text()


def table(heading: str) -> dict[str, list[str]]:
    """The cells of a table of models, by the model; a row may be of two whose names end differently."""
    rows = PAGE.partition(f"\n| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    found: dict[str, list[str]] = {}
    for row in rows:
        first, *cells = [cell.strip() for cell in row.strip("|").split("|")]
        name, *endings = re.findall(r"`([^`]+)`", first)
        for each in (name, *(f"{name.rpartition('-')[0]}{ending}" for ending in endings)):
            found[each] = cells
    return found


PRICES = table("model | US$ for a million tokens")
ABILITIES = table("model | length of a vector")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_table_of_prices_is_that_of_the_code(model: KnownModel) -> None:
    tokens = plan.completed(plan.Backlog(images=1, tpm=1, model_name=model.name)).tokens
    assert PRICES[model.name] == [
        f"{model.price.dollars:.2f}",
        f"{tokens:,}",
        f"{tokens * model.price.dollars / 1000:.3f}",
        model.price.date,
        f"[source]({model.price.source})",
    ]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_table_of_what_each_takes_has_its_lengths_and_apis(model: KnownModel) -> None:
    lengths, apis, *_ = ABILITIES[model.name]
    assert [int(length) for length in re.findall(r"\d+", lengths)] == sorted(model.dimensions, reverse=True)
    if len(model.dimensions) > 1:
        assert f"**{model.dimensions[0]}**" in lengths
    names = {FOUNDRY_PATH: "`models`", COHERE_PATH: "`cohere`"}
    assert sorted(apis.split(", ")) == sorted(names[path] for path in model.paths)


def test_no_other_model_is_in_a_table() -> None:
    assert list(PRICES) == list(ABILITIES) == [model.name for model in MODELS]


def test_the_page_says_the_default_and_its_capacity() -> None:
    default = parameters()["modelName"]["defaultValue"]
    assert f"| `{default}`, the default |" in PAGE
    assert default == plan.DEFAULT_MODEL
    assert f"**{plan.CAPACITIES[default]} for all but Embed 3**" in PAGE
    assert {plan.CAPACITIES[model.name] for model in MODELS if COHERE_PATH in model.paths} == {plan.CAPACITIES[default]}
    rate = plan.plan(plan.Backlog(images=1, share=1)).rate
    assert f"which is {rate:.1f} pictures a second at {plan.TOKENS:,} tokens each" in PAGE.replace("\n", " ")
