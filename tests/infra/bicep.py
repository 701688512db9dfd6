"""Enough of Bicep to hold a deployment against the code: what a file declares, and what its expressions come to."""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tree_sitter
import tree_sitter_bicep
from tree_sitter import Node

_PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bicep.language()))
INFRA = Path(__file__).parents[2] / "infra"
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"==": operator.eq, "+": operator.add, "*": operator.mul}
FILES = sorted(INFRA.rglob("*.bicep"))


@dataclass(frozen=True)
class Expression:
    """What only Azure can say: a property of something deployed, or a function of Azure's. ``text`` is its source."""

    text: str


@dataclass(frozen=True)
class Declared:
    """A resource or a module: its symbol, its type or file, whether it exists already, and its properties."""

    symbol: str
    kind: str
    existing: bool
    properties: Mapping[str, Node]
    condition: str | None
    looped: bool


@dataclass(frozen=True)
class Bicep:
    """One file. ``given`` are the values of its parameters, where they are not the defaults."""

    path: Path
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Node:
        return _PARSER.parse(self.path.read_bytes()).root_node

    def parameters(self) -> dict[str, Node | None]:
        """Every parameter, with its default."""
        return dict(self._named("parameter_declaration"))

    def outputs(self) -> set[str]:
        return {name for name, _ in self._named("output_declaration")}

    def resources(self) -> list[Declared]:
        """All of them, nested ones with their parent's symbol: ``account::blobs``."""
        return [found for node in self._declarations("resource_declaration") for found in self._resource(node, "")]

    def modules(self) -> list[Declared]:
        return [_declared(node, "") for node in self._declarations("module_declaration")]

    def value(self, node: Node | str) -> Any:
        """What an expression, or a variable or parameter by its name, comes to."""
        if isinstance(node, str):
            return self._look_up(node)
        named = node.named_children
        match node.type:
            case "string":
                parts = [self._part(child) for child in named]
                if any(isinstance(part, Expression) for part in parts):
                    return Expression(text(node))
                return "".join(map(str, parts))
            case "number":
                return int(text(node))
            case "boolean":
                return text(node) == "true"
            case "array":
                return [self.value(child) for child in named if child.type != "comment"]
            case "object":
                return {name: self.value(value) for name, value in properties(node).items()}
            case "identifier":
                return self._look_up(text(node))
            case "ternary_expression":
                condition, yes, no = (self.value(child) for child in named)
                return Expression(text(node)) if isinstance(condition, Expression) else (yes if condition else no)
            case "binary_expression" if apply := OPERATORS.get(text(node.children[1])):
                sides = [self.value(child) for child in named]
                return Expression(text(node)) if any(isinstance(side, Expression) for side in sides) else apply(*sides)
            case "member_expression":
                owner = self.value(named[0])
                return owner[text(named[1])] if isinstance(owner, dict) else Expression(text(node))
            case "call_expression":
                return self._call(node)
            case "parenthesized_expression":
                return self.value(named[0])
            case _:
                return Expression(text(node))

    def _part(self, node: Node) -> Any:
        return self.value(node.named_children[0]) if node.type == "interpolation" else text(node)

    def _call(self, node: Node) -> Any:
        name = text(node.named_children[0])
        values = [self.value(child) for child in node.named_children[1].named_children]
        if any(isinstance(value, Expression) for value in values):
            return Expression(text(node))
        match name, values:
            case "string", [value]:
                return str(value)
            case "max", numbers:
                return max(numbers)
            case "empty", [value]:
                return not value
            case "concat", lists:
                return [item for items in lists for item in items]
            case _:
                return Expression(text(node))

    def _look_up(self, name: str) -> Any:
        if name in self.given:
            return self.given[name]
        for kind in ("parameter_declaration", "variable_declaration"):
            for declared, value in self._named(kind):
                if declared == name and value is not None:
                    return self.value(value)
        return Expression(name)

    def _named(self, kind: str) -> Iterator[tuple[str, Node | None]]:
        for node in self._declarations(kind):
            name = next(child for child in node.named_children if child.type == "identifier")
            equals = next((child for child in node.children if child.type == "="), None)
            value = next((c for c in node.named_children if equals and c.start_byte > equals.start_byte), None)
            yield text(name), value

    def _declarations(self, kind: str) -> Iterator[Node]:
        return (node for node in self.root.named_children if node.type == kind)

    def _resource(self, node: Node, parent: str) -> Iterator[Declared]:
        declared = _declared(node, parent)
        yield declared
        for child in _body(node).named_children:
            if child.named_children and child.named_children[0].type == "resource_declaration":
                yield from self._resource(child.named_children[0], f"{declared.symbol}::")


def text(node: Node) -> str:
    assert node.text is not None
    return node.text.decode()


def properties(node: Node) -> dict[str, Node]:
    """The properties of an object, by name."""
    found = {}
    for child in node.named_children:
        if child.type == "object_property" and len(child.named_children) > 1:
            found[text(child.named_children[0]).strip("'")] = child.named_children[-1]
    return found


def faults(path: Path) -> list[str]:
    """What in a file is no Bicep."""

    def walk(node: Node) -> Iterator[Node]:
        yield node
        for child in node.children:
            yield from walk(child)

    nodes = walk(Bicep(path).root)
    return [f"{path}:{node.start_point[0] + 1}" for node in nodes if node.type == "ERROR" or node.is_missing]


def _declared(node: Node, parent: str) -> Declared:
    name, kind = node.named_children[:2]
    within = [child.type for child in _path(node)]
    condition = next((text(c.named_children[0]) for c in _path(node) if c.type == "if_statement"), None)
    existing = any(text(child) == "existing" for child in node.children)
    found = properties(_body(node))
    return Declared(parent + text(name), text(kind).strip("'"), existing, found, condition, "for_statement" in within)


def _path(node: Node) -> Iterator[Node]:
    """From a declaration through its condition or loop down to its body."""
    while node.type != "object":
        node = next(c for c in reversed(node.named_children) if c.type in {"object", "if_statement", "for_statement"})
        yield node


def _body(node: Node) -> Node:
    return list(_path(node))[-1]
